"""all_in_one runs every service with the command of the containers, and keeps it running.

While nothing happens nothing is logged that should mean something, and each process serves the metrics that
docs/operations.md says it does.
"""

import asyncio
import json
import os
import re
import signal
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
from aiokafka import AIOKafkaConsumer

from services.all_in_one.services import SERVICES
from shared.event_log.topics import TRACES
from shared.runtime.probe import grpc_serves, http_healthy
from tests.support.all_in_one import AllInOne, StartAllInOne, is_alive
from tests.support.polling import until
from tests.support.read_model import get
from tests.support.servers import Servers

NAMES = [service.name for service in SERVICES]
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
PROJECTIONS = ("traces", "scores", "prompts", "experiments")
_DOCUMENTED = re.compile(r"^\| `(lodestream_\w+)` \| ([\w, ]+) \|", re.MULTILINE)
_SPAN_SENT_AGAIN = re.compile(r'duplicate key value violates unique constraint "spans_\d+_pkey"')
_SERVED = re.compile(r"^# TYPE (lodestream_\w+?) ", re.MULTILINE)


def documented_metrics() -> dict[str, set[str]]:
    """The processes that serve each metric, as docs/operations.md says."""
    documented = {}
    for name, processes in _DOCUMENTED.findall(OPERATIONS.read_text()):
        named = set(processes.split(", "))
        documented[name] = named - {"projections"} | (set(PROJECTIONS) if "projections" in named else set())
    return documented


async def served_metrics(pid: int) -> set[str]:
    """The names of our metrics that a process serves."""
    port = psutil.Process(pid).environ()["LODESTREAM_METRICS_PORT"]
    status, text = await asyncio.to_thread(get, f"127.0.0.1:{port}", "/metrics")
    assert status == 200
    return {name for name in _SERVED.findall(text.decode()) if not name.endswith("_created")}


async def coordinator_is_there(kafka: str) -> None:
    """Wait until groups can be joined: a Kafka that is new makes a topic for them first, and clients complain."""
    async with AIOKafkaConsumer(TRACES, bootstrap_servers=kafka, group_id="all-in-one-test"):
        pass


async def beaten_twice(database: str) -> None:
    """Wait for whole heartbeats of the evaluator: one begins when the last has ended."""
    seen: set[object] = set()

    async def again() -> bool:
        connection = await asyncpg.connect(database)
        try:
            seen.add(await connection.fetchval("SELECT max(seen_at) FROM evaluator.workers"))
        finally:
            await connection.close()
        return len(seen) > 3

    await until(again, deadline=60, what="heartbeats of the evaluator")


async def assert_quiet_and_documented(one: AllInOne, servers: Servers, database: str, postgres_log: int) -> None:
    """Nothing warns of anything, and the metrics are those that are documented."""
    await beaten_twice(database)
    served = {name: await served_metrics(one.processes()[name]["pid"]) for name in NAMES}
    documented = documented_metrics()
    assert documented
    missing = {(metric, name) for metric, names in documented.items() for name in names if metric not in served[name]}
    assert not missing, "documented, and not served"
    assert set().union(*served.values()) <= documented.keys(), "served, and not documented"
    logs = {name: Path(one.processes()[name]["log"]).read_text() for name in NAMES}
    assert not {name: loud for name, text in logs.items() if (loud := loud_lines(text))}
    if postgres := servers.processes.get("postgres"):
        ours = f" {urlsplit(database).path.removeprefix('/')} "  # other tests' stacks share the server
        lines = postgres.log.read_bytes()[postgres_log:].decode().splitlines()
        assert not [line for line in lines if ours in line and is_complaint(line)]


def is_complaint(line: str) -> bool:
    """Whether a line of Postgres's log warns; that a span was sent again does not count, other tests do that."""
    return not _SPAN_SENT_AGAIN.search(line) and re.search(r"\b(WARNING|ERROR|FATAL|PANIC):", line) is not None


def loud_lines(text: str) -> list[str]:
    """What is worse than information: of JSON by its level, of other lines by their words."""
    return [line for line in text.splitlines() if is_loud(line)]


def is_loud(line: str) -> bool:
    try:
        return json.loads(line)["level"] not in ("debug", "info")
    except (ValueError, LookupError, TypeError):
        return re.search(r"\b(WARNING|ERROR|CRITICAL|Traceback)\b", line) is not None


async def test_every_service_is_up_quiet_and_measured_and_a_killed_one_comes_back(
    all_in_one: StartAllInOne, servers: Servers, database: str
) -> None:
    places = {
        **servers.environment,
        "LODESTREAM_POSTGRES": database,
        "LODESTREAM_TRACES_GROUP": "all-in-one",
        "LODESTREAM_PROMPTS_GROUP": "all-in-one-prompts",
        "LODESTREAM_SCORES_GROUP": "all-in-one-scores",
        "LODESTREAM_EXPERIMENTS_GROUP": "all-in-one-experiments",
    }
    await coordinator_is_there(servers.kafka)
    postgres_log = servers.processes["postgres"].log.stat().st_size if "postgres" in servers.processes else 0
    one = await all_in_one(**places)
    await one.ready(*NAMES)
    await assert_quiet_and_documented(one, servers, database, postgres_log)
    environment = one.status()["environment"]
    assert await grpc_serves(environment["LODESTREAM_ENDPOINT"])
    assert await grpc_serves(environment["LODESTREAM_QUERY"])
    assert await http_healthy(one.processes()["traces"]["address"])
    assert (environment["LODESTREAM_PUBLIC_KEY"], environment["LODESTREAM_SECRET_KEY"]) == (
        "pk-ls-local",
        "sk-ls-local",
    )
    assert f"export LODESTREAM_ENDPOINT={environment['LODESTREAM_ENDPOINT']}\n" in one.said()
    os.kill(one.processes()["query"]["pid"], signal.SIGSTOP)
    await until(lambda: one.processes()["query"]["state"] == "not healthy", deadline=30, what="its silence to be seen")
    os.kill(one.processes()["query"]["pid"], signal.SIGCONT)
    await one.ready(*NAMES)
    for name in NAMES:
        os.kill(one.processes()[name]["pid"], signal.SIGKILL)
    await until(
        lambda: all(entry["restarts"] == 1 and entry["state"] == "ready" for entry in one.processes().values()),
        deadline=60,
        what="all to be back",
    )
    assert await grpc_serves(environment["LODESTREAM_ENDPOINT"])
    assert await one.end(signal.SIGTERM) == 0


async def test_a_service_that_cannot_start_ends_the_start_with_its_last_words(
    all_in_one: StartAllInOne, servers: Servers, database: str
) -> None:
    places = {**servers.environment, "LODESTREAM_POSTGRES": database, "LODESTREAM_LOG_LEVEL": "SHRILL"}
    one = await all_in_one(**places)
    family = await until(one.family, what="its children")
    assert await asyncio.wait_for(one.child.wait(), 60) == 1
    assert "did not start: exit code 1" in one.said()
    assert "SHRILL" in one.said()
    assert not any(is_alive(process) for process in family)
