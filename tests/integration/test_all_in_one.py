"""`python -m services.all_in_one` starts real servers, keeps them running, and leaves nothing however it ends."""

import asyncio
import os
import signal
import socket
import stat
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest
import redis.asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from shared.event_log.topics import TRACES
from tests.support.all_in_one import AllInOne, StartAllInOne, is_alive
from tests.support.polling import until
from tests.support.servers import Servers

pytestmark = pytest.mark.timeout(180)


SERVERS = ("kafka", "postgres", "valkey")


async def write_everywhere(addresses: dict[str, str]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=addresses["LODESTREAM_KAFKA"]) as producer:
        await producer.send_and_wait(TRACES, b"kept", partition=0)
    connection = await asyncpg.connect(addresses["LODESTREAM_POSTGRES"])
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (what text); INSERT INTO kept VALUES ('kept')")
    await connection.close()
    async with redis.asyncio.Redis.from_url(addresses["LODESTREAM_REDIS"]) as client:
        await client.rpush("kept", "kept")


async def kept_everywhere(addresses: dict[str, str]) -> list[int]:
    """How often each server holds what `write_everywhere` wrote."""
    async with AIOKafkaConsumer(bootstrap_servers=addresses["LODESTREAM_KAFKA"]) as consumer:
        ends = await consumer.end_offsets([TopicPartition(TRACES, 0)])
    connection = await asyncpg.connect(addresses["LODESTREAM_POSTGRES"])
    rows = await connection.fetchval("SELECT count(*) FROM kept")
    await connection.close()
    async with redis.asyncio.Redis.from_url(addresses["LODESTREAM_REDIS"]) as client:
        return [*ends.values(), rows, await client.llen("kept")]


async def test_data_survive_a_gentle_end_and_a_kill(all_in_one: StartAllInOne) -> None:
    first = await all_in_one("--servers-only")
    await first.ready(*SERVERS)
    assert all(psutil.pid_exists(entry["pid"]) and entry["memory_bytes"] > 0 for entry in first.processes().values())
    await write_everywhere(first.status()["environment"])
    assert await first.end(signal.SIGTERM) == 0
    assert not first.status(), "nobody is told of a stack that is down"

    second = await all_in_one("--servers-only")
    await second.ready(*SERVERS)
    assert await kept_everywhere(second.status()["environment"]) == [1, 1, 1]
    await write_everywhere(second.status()["environment"])
    assert await second.end(signal.SIGKILL) == -signal.SIGKILL

    third = await all_in_one("--servers-only")
    await third.ready(*SERVERS)
    assert await kept_everywhere(third.status()["environment"]) == [2, 2, 2]
    assert await third.end(signal.SIGINT) == 0


async def test_other_users_of_the_machine_read_nothing_and_get_in_nowhere(all_in_one: StartAllInOne) -> None:
    one = await all_in_one("--servers-only", OPENAI_API_KEY="sk-of-a-provider")
    await one.ready(*SERVERS)
    await nobody_else_gets_in(one)
    for entry in one.processes().values():
        assert "sk-of-a-provider" not in psutil.Process(entry["pid"]).environ().values(), entry["name"]
    assert await one.end(signal.SIGTERM) == 0
    # As a version left it that asked for no password.
    (one.data / "postgres.password").unlink()
    (one.data / "postgres" / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")
    again = await all_in_one("--servers-only")
    await again.ready(*SERVERS)
    await nobody_else_gets_in(again)
    assert await again.end(signal.SIGTERM) == 0


async def nobody_else_gets_in(one: AllInOne) -> None:
    assert not [path for path in (one.data, *one.data.rglob("*")) if is_open_to_others(path)]
    addresses = one.status()["environment"]
    for name, error in (("LODESTREAM_POSTGRES", asyncpg.PostgresError), ("LODESTREAM_REDIS", redis.RedisError)):
        password = urlsplit(addresses[name]).password
        assert password
        assert password not in one.said() + "".join(entry["address"] for entry in one.processes().values())
        assert not any(password in word for each in one.family() for word in each.cmdline())
        with pytest.raises(error):
            await answers(addresses[name].replace(password, "guess"))
        with pytest.raises(error):
            await answers(addresses[name].replace(f":{password}@", "@"))


def is_open_to_others(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:  # the servers are at work
        return False
    of_others = stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH
    return not stat.S_ISLNK(mode) and bool(mode & of_others)


async def answers(address: str) -> None:
    """Returns when the server lets this address in."""
    if address.startswith("postgresql:"):
        await (await asyncpg.connect(address)).close()
        return
    async with redis.asyncio.Redis.from_url(address) as client:
        await client.ping()


async def test_killed_while_it_starts_it_leaves_nobody_and_starts_again(all_in_one: StartAllInOne) -> None:
    one = await all_in_one("--servers-only")
    await until(lambda: len(one.family()) > 3, deadline=60, what="its first children")
    await one.end(signal.SIGKILL)
    again = await all_in_one("--servers-only", "--exit")
    assert await asyncio.wait_for(again.child.wait(), 90) == 0, again.said()


async def test_killed_together_with_its_keeper_the_next_start_clears_up(all_in_one: StartAllInOne) -> None:
    one = await all_in_one("--servers-only")
    await one.ready(*SERVERS)
    left = [psutil.Process(entry["pid"]) for entry in one.processes().values()]
    reaper = next(each for each in one.family() if "services.all_in_one.reaper" in each.cmdline())
    reaper.kill()
    one.child.kill()
    await one.child.wait()
    assert all(is_alive(process) for process in left), "nobody was there to stop them"
    again = await all_in_one("--servers-only", "--exit")
    assert await asyncio.wait_for(again.child.wait(), 90) == 0, again.said()
    assert not any(is_alive(process) for process in left)
    assert "stopped kafka, which a killed run had left" in again.said()


async def test_a_start_that_fails_half_way_leaves_nobody(all_in_one: StartAllInOne, servers: Servers) -> None:
    one = await all_in_one("--servers-only", LODESTREAM_KAFKA=servers.kafka, LODESTREAM_REDIS="redis://127.0.0.1:1/0")
    await until(lambda: len(one.family()) > 3, what="Postgres to start")
    family = one.family()
    assert await asyncio.wait_for(one.child.wait(), 60) == 1
    assert "error: LODESTREAM_REDIS names a server that did not answer" in one.said()
    assert "Traceback" not in one.said()
    assert not any(is_alive(process) for process in family)


async def test_what_crashes_is_started_again_and_the_reason_is_told(
    all_in_one: StartAllInOne, servers: Servers, database: str
) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # somebody has it already, which serves as well
            taken.bind(("127.0.0.1", 6379))
        taken.listen()
        one = await all_in_one("--servers-only", LODESTREAM_KAFKA=servers.kafka, LODESTREAM_POSTGRES=database)
        await one.ready("valkey")  # the others are named by the environment
    assert "port 6379 is taken: Valkey listens on" in one.said()
    before = one.processes()["valkey"]
    os.kill(before["pid"], signal.SIGKILL)
    after = await until(
        lambda: (now := one.processes()["valkey"])["restarts"] == 1 and now["state"] == "ready" and now,
        what="Valkey to be back",
    )
    assert after["pid"] != before["pid"]
    assert after["address"] == before["address"]
    assert after["reason"].startswith("killed by SIGKILL\n")
    assert "Ready to accept connections" in after["reason"], "its last words"
    assert "valkey: down, restart in" in one.said()
    assert "killed by SIGKILL" in one.said()


async def test_two_on_one_folder_are_one_too_many(all_in_one: StartAllInOne, servers: Servers, database: str) -> None:
    first = await all_in_one("--servers-only", LODESTREAM_KAFKA=servers.kafka, LODESTREAM_POSTGRES=database)
    await first.ready("valkey")
    second = await all_in_one("--servers-only", LODESTREAM_KAFKA=servers.kafka, LODESTREAM_POSTGRES=database)
    assert await asyncio.wait_for(second.child.wait(), 30) == 1
    assert f"is in use by all_in_one, process {first.child.pid}" in second.said()
    await first.ready("valkey")
    assert await first.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_an_ephemeral_stack_leaves_no_file(
    all_in_one: StartAllInOne, servers: Servers, database: str, tmp_path: Path, number: signal.Signals
) -> None:
    places = {"LODESTREAM_KAFKA": servers.kafka, "LODESTREAM_POSTGRES": database, "TMPDIR": str(tmp_path)}
    one = await all_in_one("--servers-only", "--ephemeral", **places)
    (status,) = await until(lambda: list(tmp_path.glob("lodestream-*/status.json")), what="the temporary folder")
    await one.end(number)
    await until(lambda: not status.parent.exists(), what="the temporary folder to go")


async def test_a_script_runs_with_the_addresses_and_its_exit_code_is_ours(
    all_in_one: StartAllInOne, servers: Servers, database: str, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text("print('the script ran'); raise SystemExit(7)")
    places = {"LODESTREAM_KAFKA": servers.kafka, "LODESTREAM_POSTGRES": database}
    one = await all_in_one("--servers-only", "--run", str(script), "--exit", **places)
    assert await asyncio.wait_for(one.child.wait(), 60) == 7
    assert "the script ran" in one.said()


async def test_a_folder_that_cannot_hold_data_is_told_by_name(all_in_one: StartAllInOne, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    one = await all_in_one("--servers-only")
    assert await asyncio.wait_for(one.child.wait(), 30) == 1
    assert one.said() == f"error: {tmp_path}/data can't hold the data: File exists; --data-dir names another folder\n"
