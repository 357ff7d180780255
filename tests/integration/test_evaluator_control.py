"""Runs are steered while they go on: cancelled, paused, limited in concurrency, cost and time, shared, slowed down."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import pytest
from lodestream_proto.v1.experiment_event_pb2 import EXPERIMENT_OUTCOME_BUDGET_SPENT, EXPERIMENT_OUTCOME_COMPLETED

from tests.support.evaluating import QUICK, Workplace, working
from tests.support.experiment_runs import append_events, cancelled, ended, furnish, paused, requested, resumed
from tests.support.model_server import Says
from tests.support.polling import until

HEARTBEAT = float(QUICK["LODESTREAM_EVALUATOR_HEARTBEAT_SECONDS"])
BUSY = 1.0
"""Seconds that a crowded machine may add to anything."""
UNDER_WAY = "SELECT count(*) FROM evaluator.jobs WHERE project_id = $1 AND run_id = $2 AND state = 1"


@pytest.fixture(scope="module")
async def place(ground, servers, template, tmp_path_factory) -> AsyncIterator[Workplace]:
    """Two workers for all tests of this file; each has a project of its own."""
    async with working(ground, servers, template, tmp_path_factory.mktemp("providers")) as workplace:
        await asyncio.gather(workplace.worker(), workplace.worker())
        yield workplace


@pytest.fixture
def project() -> str:
    return f"p{uuid4().hex[:10]}"


def saying(place: Workplace, project: str, says: Callable[[int], Says]) -> list[float]:
    """Lets the model answer a project's n-th call (from 0) so; returns when it was called, as it comes."""
    calls: list[float] = []

    def answer(_: int, body: dict[str, Any]) -> Says | None:
        if body.get("user") != project:
            return None
        calls.append(asyncio.get_running_loop().time())
        return says(len(calls) - 1)

    place.answers.append(answer)
    return calls


def here(run_id: str, *, project: str, **fields: Any):
    """A run whose calls the model of the tests answers."""
    return requested(run_id, project=project, provider="here", settings={"user": project}, **fields)


async def test_a_cancelled_run_calls_nobody_after_a_heartbeat(place, project) -> None:
    """Calls under way are broken off, and what they would have come to is told nowhere."""
    await furnish(place.dsn, project, 200)
    calls = saying(place, project, lambda _: Says(after_seconds=30))
    await append_events(place.servers.kafka, here("r", project=project))
    await until(lambda: len(calls) == 8, what="all the calls that may be under way")
    await append_events(place.servers.kafka, cancelled("r", project=project))
    await until(lambda: place.model.broken_off >= 8, deadline=HEARTBEAT + 4 * BUSY)
    assert len(calls) == 8
    gone = "SELECT swept FROM evaluator.runs WHERE project_id = $1"
    await until(lambda: place.value(gone, project), what="the jobs to be gone")
    published = await place.log.read(project)
    assert [published.results, published.traces, published.scores, published.endings] == [{}, {}, {}, {}]


async def test_nothing_begins_while_a_run_is_paused(place, project) -> None:
    """What is under way comes to its end; a pause told twice is one, so telling it again undoes no resumption."""
    await furnish(place.dsn, project, 24)
    calls = saying(place, project, lambda n: Says(after_seconds=1.0 if n < 8 else 0.0))
    pause = paused("r", project=project)
    await append_events(place.servers.kafka, here("r", project=project))
    await until(lambda: len(calls) == 8)
    await append_events(place.servers.kafka, pause)

    async def under_way_is_told() -> bool:
        return len((await place.log.read(project)).results) == 8

    await until(under_way_is_told)
    assert len(calls) == 8
    assert await place.value("SELECT state FROM evaluator.runs WHERE project_id = $1", project) == 2
    await append_events(place.servers.kafka, resumed("r", project=project), pause)
    published = await ended(place.log, project, "r")
    assert len(published.of("r")) == len(calls) == 24


async def test_workers_keep_to_a_runs_concurrency_together(place, project) -> None:
    await furnish(place.dsn, project, 30)
    most, under_way = 0, []
    calls = saying(place, project, lambda _: Says(after_seconds=0.1))

    async def watch() -> None:
        nonlocal most
        while True:
            under_way.append(await place.value(UNDER_WAY, project, "r"))
            now = asyncio.get_running_loop().time()
            most = max(most, sum(now - 0.09 < at <= now for at in calls))
            await asyncio.sleep(0.02)

    watching = asyncio.ensure_future(watch())
    await append_events(place.servers.kafka, here("r", project=project, max_concurrency=3))
    await ended(place.log, project, "r")
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert max(under_way) == 3
    assert most <= 3
    assert len(calls) == 30


async def test_a_budget_of_money_ends_a_run_with_what_is_done(place, project) -> None:
    """Each call costs 60 µ$ (10 tokens in, 5 out); calls under way when it is spent still count."""
    await furnish(place.dsn, project, 60)
    calls = saying(place, project, lambda _: Says(after_seconds=0.05))
    run = here("r", project=project, max_cost_usd=0.0006, max_concurrency=4)
    await append_events(place.servers.kafka, run)
    published = await ended(place.log, project, "r")
    (ending,) = published.endings["r"]
    assert (ending.outcome, ending.reason) == (EXPERIMENT_OUTCOME_BUDGET_SPENT, "budget.max_cost_usd is spent")
    assert 10 <= len(published.of("r")) == len(calls) <= 10 + 4 - 1


async def test_a_budget_of_time_ends_a_run_with_what_is_done(place, project) -> None:
    await furnish(place.dsn, project, 60)
    calls = saying(place, project, lambda _: Says(after_seconds=0.5))
    await append_events(place.servers.kafka, here("r", project=project, max_seconds=2, max_concurrency=4))
    published = await ended(place.log, project, "r")
    (ending,) = published.endings["r"]
    assert (ending.outcome, ending.reason) == (EXPERIMENT_OUTCOME_BUDGET_SPENT, "budget.max_seconds are over")
    assert 0 < len(published.of("r")) == len(calls) < 60


async def test_who_asks_to_be_left_alone_is_left_alone_by_all(place, project) -> None:
    """Every fourth call is one too many; then nobody calls for the second that the answer asks for."""
    await furnish(place.dsn, project, 12)
    limited: list[float] = []

    def says(n: int) -> Says:
        if n != 4:
            return Says(after_seconds=0.02)
        limited.append(asyncio.get_running_loop().time())
        return Says(status=429, headers=("retry-after: 1",), raw=b"{}")

    calls = saying(place, project, says)
    await append_events(place.servers.kafka, here("r", project=project, max_concurrency=2))
    published = await ended(place.log, project, "r")
    assert published.endings["r"][0].outcome == EXPERIMENT_OUTCOME_COMPLETED
    results = published.of("r")
    assert (len(results), len(calls)) == (12, 13)
    assert sorted(result.attempts for result in results) == [1] * 11 + [2]
    (at,) = limited
    one_was_under_way = 0.25
    assert not [call for call in calls if at + one_was_under_way < call < at + 1]


async def test_runs_and_projects_are_served_alike(place, project) -> None:
    """A run of many items that was there first does not keep a small one of another project waiting."""
    other = f"{project}b"
    await furnish(place.dsn, project, 400)
    await furnish(place.dsn, other, 8)
    calls = saying(place, project, lambda _: Says(after_seconds=0.2))
    saying(place, other, lambda _: Says(after_seconds=0.2))
    await append_events(place.servers.kafka, here("big", project=project, max_concurrency=100))
    await until(lambda: len(calls) >= 64, what="all slots of both workers to be taken")
    await append_events(place.servers.kafka, here("small", project=other, max_concurrency=100))
    await ended(place.log, other, "small")
    assert len(calls) < 400, "the big one still goes on"
    await append_events(place.servers.kafka, cancelled("big", project=project))


async def test_calls_of_one_project_that_never_end_leave_slots_for_another(place, project) -> None:
    """Forty runs of items that wait for ever take their share of both workers' slots and no more."""
    other, never = f"{project}b", asyncio.Event()
    await furnish(place.dsn, project, 50)
    await furnish(place.dsn, other, 20)
    slow = saying(place, project, lambda _: Says(until=never))
    saying(place, other, lambda _: Says())
    loud = [here(f"loud-{n}", project=project, max_concurrency=1000) for n in range(40)]
    await append_events(place.servers.kafka, *loud)
    share = 2 * 32
    await until(lambda: len(slow) >= share, what="the project to hold all that it may")
    await append_events(place.servers.kafka, here("quiet", project=other))
    published = await ended(place.log, other, "quiet")
    assert len(published.of("quiet")) == 20
    assert len(slow) == share
    assert not never.is_set()
    await append_events(place.servers.kafka, *(cancelled(f"loud-{n}", project=project) for n in range(40)))


async def test_a_worker_that_is_added_takes_its_share(place, project) -> None:
    await furnish(place.dsn, project, 3000)
    calls = saying(place, project, lambda _: Says(after_seconds=0.5))
    await append_events(place.servers.kafka, here("r", project=project, max_concurrency=90))
    await until(lambda: len(calls) >= 64)
    await place.worker()
    owners = "SELECT count(DISTINCT owner) FROM evaluator.jobs WHERE project_id = $1 AND state = 1"

    async def three_work() -> bool:
        return bool(await place.value(owners, project) == 3)

    await until(three_work)
    await append_events(place.servers.kafka, cancelled("r", project=project))
