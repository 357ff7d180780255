"""The projection of experiments dies at the worst instants: every version and every result counts once all the same."""

import asyncio
from uuid import uuid4

import pytest

from shared.event_log.topics import EXPERIMENTS
from tests.support.experiment_records import EXPERIMENTS_PROJECTION, created, item, requested, result, usage
from tests.support.log_access import append, ends
from tests.support.polling import until
from tests.support.read_model import Table, begin_at_the_end

PARTITIONS, ITEMS = 12, 20


@pytest.fixture
def project() -> str:
    return f"p{uuid4().hex[:10]}"


def environment_of(database: str, **more: str) -> dict[str, str]:
    """Each process in a group of its own: only the database knows where to read on, and nobody waits for the dead."""
    return {"LODESTREAM_POSTGRES": database, "LODESTREAM_EXPERIMENTS_GROUP": f"test-{uuid4().hex[:10]}", **more}


def told(project: str) -> list[tuple[int, bytes]]:
    """A dataset and a run in each partition, with as many changes and results, each told twice."""
    events = []
    for n in range(PARTITIONS):
        name = f"d{n}"
        items = [item(f"i{k}", f"{k}", of=name) for k in range(ITEMS)]
        results = [result(f"i{k}", name, usage=usage(1, 1, 1)) for k in range(ITEMS)]
        told_once = [created(name), requested(name), *items, *results]
        events += [(n, event) for event in [*told_once, *told_once]]
    for _, event in events:
        event.project_id = project
    return [(partition, event.SerializeToString()) for partition, event in sorted(events, key=lambda its: its[0])]


class Counts(Table):
    """What a project's rows come to."""

    async def changes(self) -> int:
        return await self.value("SELECT sum(version) FROM datasets WHERE project_id = $1", self.project)

    async def results(self) -> int:
        return await self.value("SELECT sum(items_finished) FROM experiment_runs WHERE project_id = $1", self.project)

    def have_read_up_to(self, offsets: int):
        """Whether the positions add up to this."""

        async def read() -> bool:
            return await self.value("SELECT sum(next_offset) FROM lodestream.projection_positions") >= offsets

        return read


@pytest.mark.parametrize("failpoint", ["experiments.written", "projection.committed"])
async def test_killed_between_write_and_commit_and_after_commit(
    servers, service, database, project, *, failpoint: str
) -> None:
    await begin_at_the_end(servers.kafka, database, "experiments", EXPERIMENTS)
    doomed = await service(
        EXPERIMENTS_PROJECTION, **environment_of(database, LODESTREAM_FAILPOINTS=f"{failpoint}=kill@4")
    )
    table = Counts(database, project)
    await append(servers.kafka, told(project), topic=EXPERIMENTS)
    assert await asyncio.wait_for(doomed.process.ended(), 30) == -9
    assert await table.results() < PARTITIONS * ITEMS

    await service(EXPERIMENTS_PROJECTION, **environment_of(database))
    end = sum((await ends(servers.kafka, EXPERIMENTS)).values())
    await until(table.have_read_up_to(end), deadline=30)
    assert (await table.changes(), await table.results()) == (PARTITIONS * (ITEMS + 1), PARTITIONS * ITEMS)
    rows = "SELECT count(*) FROM {} WHERE project_id = $1"
    assert await table.value(rows.format("dataset_items"), project) == PARTITIONS * ITEMS
    assert await table.value(rows.format("experiment_items"), project) == PARTITIONS * ITEMS
    assert await table.value(rows.format("experiment_events"), project) == PARTITIONS * (2 * ITEMS + 2)
    assert await table.value("SELECT count(*) FROM dead_letters") == 0
