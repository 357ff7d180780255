"""The cache of prompts on a real Redis: what is read is never older than what was read before."""

import asyncio
import random
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from lodestream_proto.v1.prompt_cache_pb2 import PromptHead
from lodestream_proto.v1.prompts_pb2 import PromptVersion
from redis.asyncio import Redis

from services.all_in_one import valkey
from services.all_in_one.ports import find_port
from services.all_in_one.processes import Process
from shared.storage.prompt_cache import UNKNOWN_MS, CacheAwayError, Miss, Offered, Place, PromptCache, head_key
from tests.support.polling import until


@pytest.fixture
async def own_redis(ground) -> AsyncIterator[Process]:
    process = await valkey.embed(ground, port=find_port())
    await process.start()
    yield process
    process.resume()
    await process.stop()


@pytest.fixture
async def redis(own_redis) -> AsyncIterator[Redis]:
    client = Redis.from_url(own_redis.command.address)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def cache(own_redis, redis) -> AsyncIterator[PromptCache]:
    cache = PromptCache(own_redis.command.address, seconds=1.0)
    yield cache
    await cache.aclose()


@pytest.fixture
def place() -> Place:
    return "acme", f"p-{uuid4().hex[:8]}"


def head(place: Place, revision: int) -> PromptHead:
    return PromptHead(name=place[1], revision=revision)


async def ticket(cache: PromptCache, place: Place) -> str:
    (miss,) = await cache.look([place])
    assert isinstance(miss, Miss)
    return miss.ticket


async def offer(cache: PromptCache, place: Place, revision: int, ticket: str = "") -> Offered:
    return (await cache.offer({place: (head(place, revision), ticket)}))[place]


async def revision(cache: PromptCache, place: Place) -> int | None:
    (found,) = await cache.look([place])
    return None if isinstance(found, Miss) else found.revision


async def test_only_newer_heads_are_taken_in_any_order(cache, place) -> None:
    first = await ticket(cache, place)
    offers = list(range(1, 101)) * 2
    random.Random(7).shuffle(offers)
    highest = 0
    for each in offers:
        expected = Offered.TAKEN if each > highest else Offered.AS_MUCH_IS_KNOWN
        assert await offer(cache, place, each, first) is expected
        highest = max(highest, each)
        assert await revision(cache, place) == highest


async def test_one_looks_first_and_the_others_know(cache, place) -> None:
    looks = [look for _ in range(5) for look in await cache.look([place])]
    assert [look.first for look in looks] == [True, False, False, False, False]
    assert len({look.ticket for look in looks}) == 1


@pytest.mark.parametrize("loss", ["flushall", "evicted", "restarted"])
async def test_a_late_reader_cannot_fill_what_was_lost_since(cache, redis, own_redis, place, loss: str) -> None:
    """It has read revision 7; meanwhile 8 was offered, and lost."""
    late = await ticket(cache, place)
    assert await offer(cache, place, 8, late) is Offered.TAKEN
    if loss == "flushall":
        await redis.flushall()
    elif loss == "evicted":
        await redis.delete(head_key(*place))
    else:
        await own_redis.restart()
        await until(lambda: answers(cache, place))
    assert await offer(cache, place, 7, late) is Offered.LOST
    assert await revision(cache, place) is None
    assert await offer(cache, place, 8, await ticket(cache, place)) is Offered.TAKEN
    assert await revision(cache, place) == 8


async def test_a_restarted_server_does_not_answer_with_what_it_kept(cache, own_redis, place) -> None:
    """It may have lost what came after: here nothing was lost, and nobody can tell."""
    await offer(cache, place, 3, await ticket(cache, place))
    own_redis.kill()
    await own_redis.ended()
    await own_redis.start()
    await until(lambda: answers(cache, place))
    assert await revision(cache, place) is None


async def test_what_is_unknown_is_known_shortly_and_never_hides_what_comes(cache, redis, place) -> None:
    first = await ticket(cache, place)
    assert await offer(cache, place, 0, first) is Offered.TAKEN
    assert await revision(cache, place) == 0
    assert 0 < await redis.pttl(head_key(*place)) <= UNKNOWN_MS
    assert await offer(cache, place, 1) is Offered.TAKEN
    assert await offer(cache, place, 0, first) is Offered.AS_MUCH_IS_KNOWN
    assert await revision(cache, place) == 1
    assert await redis.pttl(head_key(*place)) > 3_000_000


async def test_a_full_server_forgets_rather_than_tells_what_is_old(cache, redis, place) -> None:
    await offer(cache, place, 1, await ticket(cache, place))
    await redis.config_set("maxmemory", 1)
    assert await revision(cache, place) == 1, "still the newest"
    assert await offer(cache, place, 2) is Offered.FULL
    assert await cache.look([place]) == [Miss("", first=False)]
    await redis.config_set("maxmemory", 0)
    assert await offer(cache, place, 1, "") is Offered.LOST
    assert await offer(cache, place, 2, await ticket(cache, place)) is Offered.TAKEN


async def test_versions_never_change_and_carry_nothing_that_does(cache, place) -> None:
    assert await cache.version(place, 2) is None
    kept = PromptVersion(name=place[1], version=2, text="Hi", labels=["production"], revision=5)
    await cache.keep_version(place, kept)
    assert await cache.version(place, 2) == PromptVersion(name=place[1], version=2, text="Hi")
    assert await cache.version(("other", place[1]), 2) is None, "another project's"


async def test_projects_have_nothing_in_common(cache, place) -> None:
    await offer(cache, place, 4, await ticket(cache, place))
    assert await revision(cache, ("other", place[1])) is None


async def test_a_change_is_told_with_its_revision(cache, place) -> None:
    first = await ticket(cache, place)
    changes = cache.changes()
    assert await anext(changes) is None, "from now on"
    await offer(cache, place, 0, first)
    await offer(cache, place, 1)
    await offer(cache, place, 1)
    await offer(cache, place, 2)
    told = [await anext(changes), await anext(changes)]
    assert [(change.project_id, change.name, change.revision) for change in told if change] == [
        (*place, 1),
        (*place, 2),
    ]
    await changes.aclose()


async def test_a_frozen_server_costs_a_moment_once(own_redis, place) -> None:
    cache = PromptCache(own_redis.command.address, seconds=0.1)
    await cache.look([place])
    changes = cache.changes()
    assert await anext(changes) is None
    own_redis.pause()
    with pytest.raises(CacheAwayError, match="TimeoutError"):
        await cache.look([place])
    with pytest.raises(CacheAwayError, match="a moment ago"):
        await cache.look([place])
    with pytest.raises(CacheAwayError):
        await anext(changes)
    own_redis.resume()
    await until(lambda: answers(cache, place))
    await cache.aclose()


async def test_a_cancelled_call_is_cancelled(cache, place) -> None:
    """Whoever looks all the time must hear that it is to end."""

    async def look_for_ever() -> None:
        while True:
            await cache.look([place])

    for turns in range(60):
        looking = asyncio.ensure_future(look_for_ever())
        for _ in range(turns):
            await asyncio.sleep(0)
        looking.cancel()
        done, _ = await asyncio.wait([looking], timeout=5)
        assert done, f"cancelled after {turns} turns of the loop"


async def answers(cache: PromptCache, place: Place) -> bool:
    try:
        await cache.look([place])
    except CacheAwayError:
        return False
    return True
