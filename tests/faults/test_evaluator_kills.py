"""Workers die at every step and at random, or sleep past their leases and wake: each item has one result, one trace,
and one score of each evaluator, and a call more only where a worker died.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from uuid import uuid4

import psutil
import pytest

from services.all_in_one.processes import Process
from services.write.evaluator.items import event_id, trace_id
from tests.support.evaluating import Workplace, working
from tests.support.experiment_runs import PublishedEvents, append_events, ended, furnish, requested
from tests.support.model_server import Says
from tests.support.polling import until

EVALUATORS = 2  # of a run
STEPS = ["claimed", "answered", "decided", "appended", "finished", "end_decided"]
SLEEPS = ["answered", "decided"]


@pytest.fixture(scope="module")
async def place(ground, servers, template, tmp_path_factory) -> AsyncIterator[Workplace]:
    async with working(ground, servers, template, tmp_path_factory.mktemp("providers")) as workplace:
        yield workplace


@pytest.fixture(scope="module")
async def rescuer(place) -> Process:
    """A worker that sleeps while others come to grief."""
    process: Process = await place.worker()
    process.pause()
    return process


@asynccontextmanager
async def awake(rescuer: Process) -> AsyncIterator[None]:
    """While this is entered the rescuer works; one that gives up after its sleep is started again, as everywhere."""

    async def supervise() -> None:
        while True:
            await rescuer.ended()
            await rescuer.start()

    rescuer.resume()
    supervising = asyncio.create_task(supervise())
    try:
        yield
    finally:
        supervising.cancel()
        await asyncio.gather(supervising, return_exceptions=True)
        rescuer.pause()


@pytest.fixture
def project() -> str:
    return f"p{uuid4().hex[:10]}"


def check_published_once(
    project: str, run_id: str, published: PublishedEvents, *, items: int, repetitions: int = 1
) -> None:
    """Each result is published exactly once; what was appended again was appended in the same bytes."""
    wanted = {(f"item-{n:05}", repetition) for n in range(items) for repetition in range(repetitions)}
    assert published.places(run_id) == wanted
    for what, tellings in (("result", published.results), ("trace", published.traces), ("score", published.scores)):
        assert not [key for key, versions in tellings.items() if len(versions) > 1], (
            f"a {what} was published in two versions"
        )
    assert len(published.traces) == len(wanted)
    assert len(published.scores) == len(wanted) * EVALUATORS
    for result in published.of(run_id):
        names = (project, run_id, result.item_id, result.repetition)
        assert (result.error, result.trace_id) == ("", trace_id(*names))
        assert event_id(*names, "spans") in published.traces
        assert {each.score_id for each in result.evaluations} <= published.scores.keys()
    assert len({ending.SerializeToString(deterministic=True) for ending in published.endings[run_id]}) == 1


async def asleep(process: Process) -> bool:
    return psutil.Process(process.pid).status() == psutil.STATUS_STOPPED


@pytest.mark.parametrize("step", STEPS)
async def test_killed_at_each_step(place, rescuer, project, *, step: str) -> None:
    await furnish(place.dsn, project, 6)
    doomed = await place.worker(LODESTREAM_FAILPOINTS=f"evaluator.{step}=kill@1")
    run = requested("r", project=project, max_concurrency=3)
    await append_events(place.servers.kafka, run)
    assert await asyncio.wait_for(doomed.ended(), 30) == -9
    async with awake(rescuer):
        published = await ended(place.log, project, "r")
    check_published_once(project, "r", published, items=6)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("step", SLEEPS)
async def test_a_sleeper_that_wakes_changes_nothing(place, rescuer, project, *, step: str) -> None:
    """It wakes when others have told its items and the run still goes on, for an item takes long."""
    slept = asyncio.Event()
    place.answers[:] = [lambda _, body: Says(until=slept) if "(3)" in body["messages"][-1]["content"] else None]
    await furnish(place.dsn, project, 4)
    sleeper = await place.worker(LODESTREAM_FAILPOINTS=f"evaluator.{step}=pause@1")
    await append_events(place.servers.kafka, requested("r", project=project, provider="here", max_concurrency=3))
    await until(partial(asleep, sleeper), what="its sleep", deadline=30)
    async with awake(rescuer):
        try:
            await until(partial(_told, place, project, 3), what="the others to tell its items", deadline=100)
            sleeper.resume()
            await append_events(place.servers.kafka, requested("again", project=project))
            await ended(place.log, project, "again")  # meanwhile it has done what it meant to
            slept.set()
            await ended(place.log, project, "r")
        finally:
            slept.set()
            sleeper.kill()
            await sleeper.ended()
    published = await place.log.read(project)
    assert all(
        len(versions) == 1
        for versions in (*published.results.values(), *published.traces.values(), *published.scores.values())
    )
    assert len(published.traces) == len(published.results) == 8
    assert len(published.scores) == 8 * EVALUATORS


async def test_workers_die_at_random_under_load(place, project) -> None:
    """Three at work, now and then one is killed and replaced; one is put to sleep, and wakes after its lease."""
    items, repetitions = 120, 2
    chance = random.Random(project)
    await furnish(place.dsn, project, items)
    place.answers[:] = [lambda n, _: Says(after_seconds=0.5 + 1.5 * (n % 3))]
    small = {"LODESTREAM_EVALUATOR_SLOTS": "10"}
    workers = list(await asyncio.gather(*(place.worker(**small) for _ in range(3))))
    run = requested("r", project=project, provider="here", max_concurrency=30, repetitions=repetitions)
    await append_events(place.servers.kafka, run)
    starting, before = [], len(place.model.calls)
    for turn, called in enumerate([20, 60, 100, 160]):
        await until(partial(_has_been_called, place, before + called), deadline=40)
        victim = workers.pop(chance.randrange(len(workers)))
        if turn == 1:
            victim.pause()
            sleeper = victim
        else:
            victim.kill()
            await victim.ended()
        workers.append(await place.worker(wait=False, **small))
        starting.append(asyncio.ensure_future(workers[-1].start()))
    await asyncio.gather(*starting, return_exceptions=True)  # some are killed while they start
    sleeper.resume()
    await ended(place.log, project, "r", deadline=60)
    for worker in (*workers, sleeper):
        worker.kill()
        await worker.ended()
    published = await place.log.read(project)
    check_published_once(project, "r", published, items=items, repetitions=repetitions)
    for result in published.of("r"):
        calls = place.model.keys[event_id(project, "r", result.item_id, result.repetition, "question")]
        assert 1 <= calls <= result.attempts, "each call belongs to an attempt"
    assert len(place.model.calls) - before > len(published.of("r")), "somebody died with calls under way"


def _has_been_called(place: Workplace, times: int) -> bool:
    return len(place.model.calls) >= times


async def _told(place: Workplace, project: str, items: int) -> bool:
    count = "SELECT count(*) FROM evaluator.jobs WHERE project_id = $1 AND state = 3"
    return bool(await place.value(count, project) == items)
