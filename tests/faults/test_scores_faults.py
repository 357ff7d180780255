"""The projection of scores dies at the worst instants, or Postgres does: every score counts once all the same."""

import asyncio
from uuid import uuid4

import pytest

from shared.event_log.topics import SCORES
from tests.support.log_access import append
from tests.support.polling import until
from tests.support.read_model import Table, begin_at_the_end
from tests.support.scores import SCORES_PROJECTION, score, score_event, trace


@pytest.fixture
def project() -> str:
    return f"p{uuid4().hex[:10]}"


def environment_of(database: str, **more: str) -> dict[str, str]:
    """Each process in a group of its own: only the database knows where to read on, and nobody waits for the dead."""
    return {"LODESTREAM_POSTGRES": database, "LODESTREAM_SCORES_GROUP": f"test-{uuid4().hex[:10]}", **more}


def values(project: str, count: int, *, first: int = 0) -> list[tuple[int, bytes]]:
    """Records on all partitions; each score id is told twice, about different traces."""
    return [
        (
            n % 12,
            score_event(
                score(f"s{n // 2}", float(n), target=trace(n + 1)), number=n + 1, at_s=n, project=project
            ).SerializeToString(),
        )
        for n in range(first, first + count)
    ]


class Scores(Table):
    """What a project's scores come to."""

    async def told(self) -> int:
        return await self.value("SELECT count(*) FROM score_history WHERE project_id = $1", self.project)

    async def right(self) -> int:
        """Score ids under which the later of two events holds."""
        return await self.value(
            "SELECT count(*) FROM scores WHERE project_id = $1 AND number::bigint % 2 = 1", self.project
        )

    def has_told(self, count: int):
        async def enough() -> bool:
            return await self.told() >= count

        return enough


@pytest.mark.parametrize("failpoint", ["projection.copied", "projection.committed"])
@pytest.mark.parametrize("nth", [1, 4])
async def test_killed_between_copy_and_commit_and_after_commit(
    servers, service, database, project, *, failpoint: str, nth: int
) -> None:
    await begin_at_the_end(servers.kafka, database, "scores", SCORES)
    doomed = await service(
        SCORES_PROJECTION, **environment_of(database, LODESTREAM_FAILPOINTS=f"{failpoint}=kill@{nth}")
    )
    table = Scores(database, project)
    await append(servers.kafka, values(project, 240), topic=SCORES)
    assert await asyncio.wait_for(doomed.process.ended(), 30) == -9
    assert await table.told() < 240

    await service(SCORES_PROJECTION, **environment_of(database))
    await until(table.has_told(240), deadline=30)
    assert (await table.told(), await table.right()) == (240, 120)


async def test_postgres_dies_and_comes_back(servers, private_postgres, service, project) -> None:
    postgres = await private_postgres()
    dsn = postgres.command.address
    await begin_at_the_end(servers.kafka, dsn, "scores", SCORES)
    table = Scores(dsn, project)
    running = await service(SCORES_PROJECTION, **environment_of(dsn))
    await append(servers.kafka, values(project, 60), topic=SCORES)
    await until(table.has_told(60))

    postgres.kill()
    await postgres.ended()
    await append(servers.kafka, values(project, 60, first=60), topic=SCORES)
    await until(lambda: "batch handed back" in running.process.log.read_text())
    await postgres.start()
    await until(table.has_told(120), deadline=60)
    assert (await table.told(), await table.right()) == (120, 60)
    assert await table.value("SELECT count(*) FROM dead_letters") == 0
