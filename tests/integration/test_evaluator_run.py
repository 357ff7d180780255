"""A run of a prompt over a dataset comes to its end: a result, a trace and its scores for each item and repetition."""

from uuid import uuid4

import pytest

from tests.evaluating import (
    MODULE,
    Log,
    Told,
    append_events,
    begin_evaluators_at_the_end,
    environment_of,
    furnish,
    log_from_here,
    requested,
)
from tests.polling import until


@pytest.fixture
def project() -> str:
    return f"p{uuid4().hex[:10]}"


async def ended(log: Log, project: str, *run_ids: str, deadline: float = 30) -> Told:
    """What the log says when all of these runs have ended."""

    async def said() -> Told | None:
        told = await log.read(project)
        return told if all(told.endings.get(run_id) for run_id in run_ids) else None

    return await until(said, deadline=deadline, what=f"the end of {run_ids}")


async def test_each_item_has_a_result_a_trace_and_its_scores(servers, service, database, project) -> None:
    await begin_evaluators_at_the_end(servers.kafka, database)
    await furnish(database, project, 10)
    log = await log_from_here(servers.kafka)
    await service(MODULE, **environment_of(database))
    await append_events(servers.kafka, requested("r", project=project, repetitions=2))
    told = await ended(log, project, "r")
    results = told.of("r")
    assert len(results) == len(told.traces) == 20
    assert {(its.item_id, its.repetition) for its in results} == {
        (f"item-{n:05}", repetition) for n in range(10) for repetition in range(2)
    }
