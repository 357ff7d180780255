"""Kafka, Postgres or Redis goes away amid a run, or a worker is asked to end: nothing is lost, nothing doubled."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from uuid import uuid4

import pytest

from services.write.evaluator.jobs import JobState
from tests.support.evaluating import Workplace, working
from tests.support.experiment_runs import append_events, ended, furnish, requested
from tests.support.model_server import Says
from tests.support.polling import until

PlaceOn = Callable[..., Awaitable[Workplace]]


@pytest.fixture
def project() -> str:
    return f"p{uuid4().hex[:10]}"


@pytest.fixture
async def place_on(ground, servers, template, tmp_path) -> AsyncIterator[PlaceOn]:
    """Makes a workplace on the session's servers, but for those whose address is given."""
    async with AsyncExitStack() as stack:

        async def make(**addresses: str) -> Workplace:
            own_template = None if "postgres" in addresses else template
            place = working(ground, replace(servers, **addresses), own_template, tmp_path)
            return await stack.enter_async_context(place)

        yield make


async def judge(place: Workplace, project: str, *, items: int) -> None:
    """Each item once, whatever was away; what was told again was told in the same bytes."""
    published = await ended(place.log, project, "r", deadline=60)
    assert published.places("r") == {(f"item-{n:05}", 0) for n in range(items)}
    assert not [result.error for result in published.of("r") if result.error]
    assert len(published.traces) == items
    assert len(published.scores) == 2 * items
    assert all(
        len(versions) == 1
        for versions in (*published.results.values(), *published.traces.values(), *published.scores.values())
    )


async def test_kafka_freezes_and_thaws(place_on, private_kafka, project) -> None:
    """Calls under way come to their end, their results wait, and nothing new is begun while it lasts."""
    kafka = await private_kafka()
    place = await place_on(kafka=kafka.command.address)
    await furnish(place.dsn, project, 60)
    place.answers.append(lambda _n, _body: Says(after_seconds=0.3))
    await place.worker(LODESTREAM_EVALUATOR_SLOTS="12")
    await append_events(place.servers.kafka, requested("r", project=project, provider="here"))
    await until(lambda: len(place.model.calls) >= 16)
    kafka.pause()
    filters = ", ".join(f"count(*) FILTER (WHERE state = {state})" for state in JobState)
    by_state = f"SELECT ARRAY[{filters}] FROM evaluator.jobs WHERE project_id = $1"
    counts: list[int] = []

    async def all_wait() -> bool:
        counts[:] = await place.value(by_state, project)
        return not counts[JobState.RUNNING] and counts[JobState.DECIDED] > 0

    try:
        await until(all_wait, deadline=30)
    except AssertionError:
        pytest.fail(f"calls did not end, or their results do not wait; jobs by state: {counts}")
    assert counts[JobState.QUEUED] >= 60 - 16 - 2 * 12, "nothing more is begun than what the slots have room for"
    kafka.resume()
    await judge(place, project, items=60)
    assert len(place.model.calls) == 60


async def test_postgres_dies_and_comes_back(place_on, private_postgres, project) -> None:
    """What was called and could not be decided is decided then, or called again by whoever has the job then."""
    postgres = await private_postgres()
    place = await place_on(postgres=postgres.command.address)
    await furnish(place.dsn, project, 40)
    place.answers.append(lambda _n, _body: Says(after_seconds=0.3))
    await place.worker(LODESTREAM_EVALUATOR_SLOTS="8")
    await append_events(place.servers.kafka, requested("r", project=project, provider="here"))
    await until(lambda: len(place.model.calls) >= 16)
    postgres.kill()
    await postgres.ended()
    await until(lambda: place.model.under_way == 0, what="the calls to end")
    await postgres.start()
    await judge(place, project, items=40)


async def test_redis_dies_and_the_limit_is_kept_without_it(place_on, private_redis, project, tmp_path) -> None:
    redis = await private_redis()
    place = await place_on(redis=redis.command.address)
    await furnish(place.dsn, project, 60)
    limited = {"LODESTREAM_PROVIDERS": place.model.providers(tmp_path, requests_per_second=15)}
    await asyncio.gather(place.worker(**limited), place.worker(**limited))
    run = requested("r", project=project, provider="here", max_concurrency=60)
    await append_events(place.servers.kafka, run)
    await until(lambda: len(place.model.calls) >= 20)
    redis.kill()
    await redis.ended()
    await judge(place, project, items=60)
    begin, end = place.model.at[0], place.model.at[-1]
    burst = 15 * 0.5
    assert end - begin >= (60 - 3 * burst) / 15, "no faster with Redis or without"
    for at in place.model.at:
        assert sum(at <= other < at + 1 for other in place.model.at) <= 15 + 2 * burst + 5


async def test_a_worker_that_is_asked_to_end_finishes_what_it_has_begun(place_on, project) -> None:
    """And leaves the rest to the others at once: no lease has to end."""
    place = await place_on()
    await furnish(place.dsn, project, 24)
    place.answers.append(lambda _n, _body: Says(after_seconds=1.0))
    long = {"LODESTREAM_EVALUATOR_LEASE_SECONDS": "600", "LODESTREAM_EVALUATOR_SLOTS": "4"}
    leaving, _ = await asyncio.gather(place.worker(**long), place.worker(**long))
    await append_events(place.servers.kafka, requested("r", project=project, provider="here"))
    await until(lambda: len(place.model.calls) >= 8)
    await leaving.stop()
    assert await leaving.ended() == 0
    await judge(place, project, items=24)
    assert (len(place.model.calls), place.model.broken_off) == (24, 0), "no call was made in vain"
