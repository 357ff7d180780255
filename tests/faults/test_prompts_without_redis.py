"""Redis emptied, killed or frozen, and the query service away: prompts are read on, and never older ones."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import grpc
import pytest
from redis.asyncio import Redis

from services.all_in_one.ports import find_port
from services.all_in_one.processes import Process
from shared.storage.prompt_cache import CacheAwayError, PromptCache
from tests.conftest import PrivateServer, StartService
from tests.support.gateway import MODULE, new_key, opened, refusal, retry_delay
from tests.support.polling import until
from tests.support.prompt_reading import Project, Reader, Truth, head_of, serving, truth_of


@dataclass(frozen=True, slots=True)
class Stand:
    """A gateway on a Redis of its own."""

    redis: Process
    truth: Truth
    acme: Project
    reader: Reader
    query_port: int


@pytest.fixture
async def stand(private_redis: PrivateServer, database: str, service: StartService) -> AsyncIterator[Stand]:
    redis, project_id, port = await private_redis(), f"acme-{uuid4().hex[:8]}", find_port()
    key = await new_key(database, project_id)
    cache, truth = PromptCache(redis.command.address, seconds=2), truth_of({key.secret_key: project_id})
    gateway = await service(
        MODULE,
        LODESTREAM_POSTGRES=database,
        LODESTREAM_QUERY=f"127.0.0.1:{port}",
        LODESTREAM_REDIS=redis.command.address,
    )
    async with opened(gateway.address, key) as door:
        yield Stand(redis, truth, Project(project_id, truth, cache), Reader(door, gateway.address), port)
    await cache.aclose()


async def reading(stand: Stand, names: list[str], seconds: float) -> tuple[list[int], list[float]]:
    """Revisions read one after the other, and how long each took."""
    revisions, took, number = [], [], 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        revisions.append((await stand.reader.get(names[number % len(names)])).revision)
        took.append(time.monotonic() - began)
        number += 1
        await asyncio.sleep(0.01)
    return revisions, took


async def test_flushall_again_and_again_is_no_event(stand: Stand) -> None:
    names = [f"p{n}" for n in range(20)]
    async with serving(stand.truth, stand.query_port), Redis.from_url(stand.redis.command.address) as redis:
        for name in names:
            await stand.acme.change(head_of(name, 3, production=1))
        reads = asyncio.create_task(reading(stand, names, 7))
        while not reads.done():
            await redis.flushall()
            await asyncio.sleep(0.2)
        revisions, took = await reads
    assert set(revisions) == {3}
    assert max(took) < 1


@pytest.mark.parametrize("fault", ["kill", "pause"])
async def test_without_redis_reads_go_on_and_changes_are_seen(stand: Stand, fault: str) -> None:
    async with serving(stand.truth, stand.query_port):
        names = [f"p{n}" for n in range(10)]
        for name in names:
            await stand.acme.change(head_of(name, 1, production=1))
        watch = stand.reader.watch("p0")
        assert (await watch.read()).changes[0].revision == 1
        if fault == "kill":
            stand.redis.kill()
            await stand.redis.ended()
        else:
            stand.redis.pause()
        revisions, took = await reading(stand, names, 7)
        assert set(revisions) == {1}
        assert max(took) < 1, "not more than one look at Redis and one at the query service"
        for name in names:
            await stand.acme.change(head_of(name, 2, production=2), told=False)
        await stand.reader.sees("p0", 2, within=7)

        async def told() -> bool:
            return any(outcome.revision == 2 for outcome in (await watch.read()).changes)

        await until(told, deadline=15, what="the change, looked for by the gateway itself")
        watch.cancel()
        if fault == "kill":
            await stand.redis.start()
        else:
            stand.redis.resume()
        revisions, _ = await reading(stand, names[:1], 3)
        assert set(revisions) == {2}, "what Redis remembers from before is older"

        async def listens() -> bool:
            before = sum(stand.truth.asked.values())
            try:
                await stand.acme.change(head_of("new", 1, production=1))
            except CacheAwayError:  # by a connection of the test's own, from before
                return False
            await stand.reader.get("new")
            return sum(stand.truth.asked.values()) == before

        await until(listens, deadline=15, what="reads from the Redis that is back")


async def test_without_the_query_service_redis_and_then_memory_answer(stand: Stand) -> None:
    async with serving(stand.truth, stand.query_port):
        for name in ("seen", "unseen"):
            await stand.acme.change(head_of(name, 1, production=1))
        await stand.reader.get("seen")
    assert (await stand.reader.get("unseen")).revision == 1, "Redis has it"
    stand.redis.kill()
    await stand.redis.ended()
    revisions, took = await reading(stand, ["seen", "unseen"], 8)
    assert set(revisions) == {1}
    assert max(took) < 1
    error = await refusal(stand.reader.get("never-seen"))
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert error.details() == "the prompt is in no cache, and the query service does not answer"
    assert retry_delay(error) >= 1
    async with serving(stand.truth, stand.query_port):
        await stand.acme.change(head_of("seen", 2, production=2), told=False)
        await stand.reader.sees("seen", 2, within=10)


async def test_what_is_remembered_is_not_served_for_ever(stand: Stand) -> None:
    async with serving(stand.truth, stand.query_port):
        await stand.acme.change(head_of("a", 1, production=1))
        await stand.reader.get("a")
    stand.redis.kill()
    await stand.redis.ended()
    began = time.monotonic()

    async def refused() -> bool:
        try:
            await stand.reader.get("a")
        except grpc.aio.AioRpcError as error:
            return error.code() == grpc.StatusCode.UNAVAILABLE
        return False

    await until(refused, deadline=80)
    assert 55 < time.monotonic() - began < 75
