"""A server is away: the projection says so, waits, and goes on; nothing is lost and nothing becomes a dead letter."""

import asyncio
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from services.all_in_one.processes import ProcessManager
from tests.support.log_access import append, committed_by
from tests.support.polling import until
from tests.support.read_model import TRACES_PROJECTION, Table, get, requests
from tests.torture.proxy import Proxy


@pytest.fixture
def project() -> str:
    return f"p{uuid4().hex[:10]}"


def newest_log(ground: ProcessManager) -> str:
    """What the projection started last has said, also when it is not ready yet."""
    logs = (ground.data / "logs").glob("traces-*.log")
    newest = max(logs, key=lambda path: path.stat().st_mtime, default=None)
    return newest.read_text() if newest else ""


async def test_a_start_without_servers_waits_and_says_so(
    private_kafka, private_postgres, service, ground, project
) -> None:
    kafka, postgres = await private_kafka(), await private_postgres()
    await append(kafka.command.address, requests(project, 24))
    await asyncio.gather(kafka.stop(), postgres.stop())
    environment = {"LODESTREAM_KAFKA": kafka.command.address, "LODESTREAM_POSTGRES": postgres.command.address}
    starting = asyncio.ensure_future(service(TRACES_PROJECTION, **environment))

    await until(lambda: '"server": "postgres"' in newest_log(ground))
    await postgres.start()
    await until(lambda: '"server": "kafka"' in newest_log(ground))
    assert not starting.done(), "not ready yet"
    await kafka.start()
    await starting
    await until(Table(postgres.command.address, project).holds(48), deadline=30)


async def test_postgres_and_kafka_die_and_come_back(private_kafka, private_postgres, service, project) -> None:
    kafka, postgres = await private_kafka(), await private_postgres()
    address = kafka.command.address
    table = Table(postgres.command.address, project)
    running = await service(TRACES_PROJECTION, LODESTREAM_KAFKA=address, LODESTREAM_POSTGRES=postgres.command.address)
    await append(address, requests(project, 100))
    await until(table.holds(20))

    postgres.kill()
    await postgres.ended()
    await append(address, requests(project, 100, first=100))
    await until(lambda: "batch handed back" in running.process.log.read_text())
    await postgres.start()
    await until(table.holds(400), deadline=60)

    kafka.kill()
    await kafka.ended()
    await kafka.start()
    await append(address, requests(project, 100, first=200))
    await until(table.holds(600), deadline=60)
    assert (await table.spans(), await table.counted()) == (600, 600)
    assert await table.value("SELECT count(*) FROM dead_letters") == 0

    async def healthy() -> bool:
        return (await asyncio.to_thread(get, running.metrics, "/health"))[0] == 200

    await until(healthy, deadline=30)


async def test_partitions_stay_paused_until_their_positions_are_known(
    servers, service, ground, database, project
) -> None:
    """A seek that comes late must not mean that something else was read before."""
    await append(servers.kafka, requests(project, 24))
    table = Table(database, project)
    connection = await asyncpg.connect(database)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("LOCK TABLE lodestream.projection_positions IN ACCESS EXCLUSIVE MODE")
    group = f"test-{project}"
    starting = asyncio.ensure_future(
        service(TRACES_PROJECTION, LODESTREAM_POSTGRES=database, LODESTREAM_TRACES_GROUP=group)
    )
    await until(lambda: "partitions stay paused" in newest_log(ground), deadline=30)
    assert await table.spans() == 0
    assert set((await committed_by(servers.kafka, group)).values()) == {None}, "nothing was read"
    assert not starting.done(), "not ready yet"
    await transaction.rollback()
    await connection.close()
    await starting
    await until(table.holds(48), deadline=30)
    assert await table.counted() == 48


@pytest.mark.parametrize(
    ("module", "server", "client"),
    [
        ("services.projections.scores", "LODESTREAM_POSTGRES", b"lodestream-projection-scores"),
        ("services.projections.scores", "LODESTREAM_KAFKA", b"lodestream-projection-scores"),
        ("services.write.evaluator", "LODESTREAM_POSTGRES", b"lodestream-evaluator"),
    ],
    ids=["projection without Postgres", "projection without Kafka", "evaluator without Postgres"],
)
async def test_a_server_that_goes_away_during_the_start_is_waited_for(
    servers, database, service, *, module: str, server: str, client: bytes
) -> None:
    """The first look finds all servers; the connection that comes after it, which names its client, is lost."""
    addresses = {"LODESTREAM_KAFKA": servers.kafka, "LODESTREAM_POSTGRES": database}
    address = addresses[server] if server == "LODESTREAM_KAFKA" else urlsplit(database).netloc.rpartition("@")[2]
    async with Proxy(address) as proxy:
        proxy.lose(client, reply=False)
        addresses[server] = addresses[server].replace(address, proxy.address)
        running = await service(module, **addresses)
        assert proxy.lost == 1
        said = running.process.log.read_text()
        assert '"event": "waiting"' in said
        assert "Traceback" not in said
