"""From the real log into the tables, exactly once, whatever the group does."""

import asyncio
import json
from uuid import uuid4

import asyncpg
import pytest

from shared.storage.postgres import SEARCH_PATH
from tests.support.log_access import append, commit_for, committed_by, cut, ends
from tests.support.polling import until
from tests.support.read_model import TRACES_PROJECTION, Table, begin_at_the_end, get, requests, shows
from tests.support.records import event, span
from tests.support.servers import Servers


@pytest.fixture
def project() -> str:
    return f"p{uuid4().hex[:10]}"


@pytest.fixture
def group() -> str:
    return f"test-{uuid4().hex[:10]}"


@pytest.fixture
async def database_at_the_end(servers: Servers, database: str) -> str:
    """A database whose projection begins after what other tests have left in the log."""
    await begin_at_the_end(servers.kafka, database)
    return database


async def test_records_become_rows_and_the_page_says_so(servers, service, database_at_the_end, project, group) -> None:
    running = await service(TRACES_PROJECTION, LODESTREAM_POSTGRES=database_at_the_end, LODESTREAM_TRACES_GROUP=group)
    await append(servers.kafka, requests(project, 60))
    table = Table(database_at_the_end, project)
    await until(table.holds(120), deadline=30)
    assert await table.counted() == 120
    assert await asyncio.to_thread(get, running.metrics, "/health") == (200, b'{"status":"ok"}')
    await until(shows(running.metrics, 'lodestream_projection_halted{partition="0",projection="traces"} 0.0'))
    await until(shows(running.metrics, 'lodestream_projection_lag_records{partition="0",projection="traces"} 0.0'))
    await running.process.stop()
    assert await running.process.ended() == 0, "SIGTERM is no failure"


async def test_processes_come_and_go(servers, service, database_at_the_end, project, group) -> None:
    """Partitions move while records flow; one process leaves in order, one is killed."""
    environment = {"LODESTREAM_POSTGRES": database_at_the_end, "LODESTREAM_TRACES_GROUP": group}
    table = Table(database_at_the_end, project)
    first = await service(TRACES_PROJECTION, **environment)
    await append(servers.kafka, requests(project, 100))
    second, _ = await asyncio.gather(
        service(TRACES_PROJECTION, **environment), append(servers.kafka, requests(project, 200, first=100))
    )
    third = asyncio.ensure_future(service(TRACES_PROJECTION, **environment))
    await append(servers.kafka, requests(project, 100, first=300))
    await first.process.stop()
    await append(servers.kafka, requests(project, 100, first=400))
    await third
    second.process.kill()
    await append(servers.kafka, requests(project, 100, first=500))
    await until(table.holds(1200), deadline=60)
    assert (await table.spans(), await table.counted()) == (1200, 1200)
    assert await table.value("SELECT count(*) FROM dead_letters WHERE project_id = $1", project) == 0


@pytest.mark.parametrize("nth", [1, 3])
async def test_a_failed_batch_over_several_partitions_comes_again_whole(
    servers, service, database_at_the_end, project, group, *, nth: int
) -> None:
    """FastStream up to 0.7.7 rewound only the first partition of a batch; the others' records were lost."""
    await append(servers.kafka, requests(project, 48))
    running = await service(
        TRACES_PROJECTION,
        LODESTREAM_POSTGRES=database_at_the_end,
        LODESTREAM_TRACES_GROUP=group,
        LODESTREAM_FAILPOINTS=f"projection.copied=raise@{nth}",
    )
    table = Table(database_at_the_end, project)
    await until(table.holds(96), deadline=30)
    assert await table.counted() == 96
    assert "batch handed back" in running.process.log.read_text()


@pytest.mark.parametrize("shift", [10**6, 20, 0])
async def test_wrong_group_offsets_are_ignored(
    servers, service, database_at_the_end, project, group, *, shift: int
) -> None:
    """Ahead of the rows, past the end, or behind: Postgres says where to read on."""
    await append(servers.kafka, requests(project, 36))
    await commit_for(servers.kafka, group, {n: shift and end + shift for n, end in (await ends(servers.kafka)).items()})
    await service(TRACES_PROJECTION, LODESTREAM_POSTGRES=database_at_the_end, LODESTREAM_TRACES_GROUP=group)
    table = Table(database_at_the_end, project)
    await until(table.holds(72), deadline=30)
    assert await table.counted() == 72

    async def right() -> bool:
        return await committed_by(servers.kafka, group) == await ends(servers.kafka)

    await append(servers.kafka, requests(project, 12, first=36))
    await until(right, what="the group's offsets to follow the rows")


async def test_expired_records_halt_their_partition_and_no_other(
    private_kafka, service, database, project, group
) -> None:
    kafka = (await private_kafka()).command.address
    environment = {"LODESTREAM_POSTGRES": database, "LODESTREAM_KAFKA": kafka}
    table = Table(database, project)
    await append(kafka, requests(project, 24))
    first = await service(TRACES_PROJECTION, **environment)
    await until(table.holds(48), deadline=30)
    await first.process.stop()

    await append(kafka, requests(project, 24, first=24))
    await cut(kafka, {0: 3})
    again = asyncio.ensure_future(service(TRACES_PROJECTION, **environment, LODESTREAM_METRICS_PORT="0"))
    await until(table.holds(48 + 44), deadline=30)
    again.cancel()
    await asyncio.gather(again, return_exceptions=True)
    connection = await asyncpg.connect(database, server_settings={"search_path": SEARCH_PATH})
    rows = await connection.fetch("SELECT partition, next_offset, halted_reason FROM projection_positions ORDER BY 1")
    await connection.close()
    assert rows[0]["next_offset"] == 2, "never reset"
    assert "the log begins at 3" in rows[0]["halted_reason"]
    assert [row["halted_reason"] for row in rows[1:]] == [None] * 11
    assert await table.spans() == 48 + 44


async def test_a_halted_partition_is_an_alarm(servers, service, database_at_the_end, project, group) -> None:
    """And goes on when somebody says so."""
    connection = await asyncpg.connect(database_at_the_end, server_settings={"search_path": SEARCH_PATH})
    running = await service(TRACES_PROJECTION, LODESTREAM_POSTGRES=database_at_the_end, LODESTREAM_TRACES_GROUP=group)
    table = Table(database_at_the_end, project)
    await append(servers.kafka, requests(project, 12))
    await until(table.holds(24), deadline=30)
    await connection.execute("ALTER TABLE spans ADD CONSTRAINT refuse CHECK (false) NOT VALID")
    poison = event([span(99, n + 1) for n in range(100)], project=project).SerializeToString()
    await append(servers.kafka, [(3, poison)])

    async def alarm() -> bool:
        status, body = await asyncio.to_thread(get, running.metrics, "/health")
        return status == 503 and "nor our own sample" in json.loads(body)["reason"]

    await until(alarm)
    await until(shows(running.metrics, 'lodestream_projection_halted{partition="3",projection="traces"} 1.0'))
    await connection.execute("ALTER TABLE spans DROP CONSTRAINT refuse")
    await connection.execute("UPDATE projection_positions SET halted_reason = NULL")
    await connection.close()
    await until(table.holds(124), deadline=30)
    assert (await asyncio.to_thread(get, running.metrics, "/health"))[0] == 200
