"""The projection dies, or its database session does, at the worst instants: every span counts once all the same."""

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from shared.storage.postgres import SEARCH_PATH
from tests.support.log_access import append
from tests.support.polling import until
from tests.support.read_model import TRACES_PROJECTION, Table, begin_at_the_end, requests

_KILL_SESSIONS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'
"""


@pytest.fixture
def project() -> str:
    return f"p{uuid4().hex[:10]}"


def environment_of(database: str, **more: str) -> dict[str, str]:
    """Each process in a group of its own: only the database knows where to read on, and nobody waits for the dead."""
    return {"LODESTREAM_POSTGRES": database, "LODESTREAM_TRACES_GROUP": f"test-{uuid4().hex[:10]}", **more}


@pytest.mark.parametrize("failpoint", ["projection.copied", "projection.committed"])
@pytest.mark.parametrize("nth", [1, 4])
async def test_killed_between_copy_and_commit_and_after_commit(
    servers, service, database, project, *, failpoint: str, nth: int
) -> None:
    await begin_at_the_end(servers.kafka, database)
    doomed = await service(
        TRACES_PROJECTION, **environment_of(database, LODESTREAM_FAILPOINTS=f"{failpoint}=kill@{nth}")
    )
    table = Table(database, project)
    await append(servers.kafka, requests(project, 120))
    assert await asyncio.wait_for(doomed.process.ended(), 30) == -9
    assert await table.spans() == await table.counted() < 240, "what is committed is whole"

    await service(TRACES_PROJECTION, **environment_of(database))
    await until(table.holds(240), deadline=30)
    assert (await table.spans(), await table.counted()) == (240, 240)


async def test_database_sessions_die_in_mid_batch(servers, service, database, project) -> None:
    await begin_at_the_end(servers.kafka, database)
    await service(TRACES_PROJECTION, **environment_of(database))
    table = Table(database, project)
    connection = await asyncpg.connect(database, server_settings={"search_path": SEARCH_PATH})
    killed = records = 0
    while killed < 3 and records < 20_000:
        appending = asyncio.ensure_future(append(servers.kafka, requests(project, 40, first=records)))
        records += 40
        while not appending.done():
            killed += await connection.fetchval(_KILL_SESSIONS)
            await asyncio.sleep(0)
        await appending
    assert killed, "some died at work"
    await until(table.holds(2 * records), deadline=60)
    assert (await table.spans(), await table.counted()) == (2 * records, 2 * records)
    assert await connection.fetchval("SELECT count(*) FROM dead_letters") == 0, "what passes is no poison"
    await connection.close()


@pytest.mark.timeout(240)
async def test_a_paused_process_loses_its_partitions_and_harms_nothing(servers, service, database, project) -> None:
    """It stops with a transaction open, holding the position's lock; somebody else goes on; it wakes up."""
    await begin_at_the_end(servers.kafka, database)
    zombie = await service(
        TRACES_PROJECTION, **environment_of(database, LODESTREAM_FAILPOINTS="projection.copied=pause@2")
    )
    table = Table(database, project)
    await append(servers.kafka, requests(project, 48))
    await service(TRACES_PROJECTION, **environment_of(database))
    await until(
        table.holds(96), deadline=100, what="the other process to go on, once Postgres ends the open transaction"
    )
    zombie.process.resume()
    await append(servers.kafka, requests(project, 48, first=48))
    await until(table.holds(192), deadline=30)
    assert (await table.spans(), await table.counted()) == (192, 192)
