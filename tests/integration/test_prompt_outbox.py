"""The outbox is emptied into Redis by several relays at once, in any order, while the tables change under them."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import pytest
from lodestream_proto.v1.prompt_cache_pb2 import PromptHead

from services.projections.prompts.outbox import OutboxRelay
from shared.projection.app import background_task
from shared.storage.prompt_cache import PromptCache
from shared.storage.prompt_rows import read_heads
from tests.support.polling import until
from tests.support.prompts import Deciding, archived, created, deciding, moved, record


@pytest.fixture
async def projection(database) -> AsyncIterator[Deciding]:
    async with deciding(database) as projection:
        yield projection


@pytest.fixture
async def cache(servers) -> AsyncIterator[PromptCache]:
    cache = PromptCache(servers.redis, seconds=2.0)
    yield cache
    await cache.aclose()


@asynccontextmanager
async def relaying(servers, projection: Deciding) -> AsyncIterator[None]:
    """A relay with connections of its own."""
    cache = PromptCache(servers.redis, seconds=2.0)
    try:
        async with background_task(OutboxRelay(projection.pool, cache).run()):
            yield
    finally:
        await cache.aclose()


async def test_redis_ends_with_the_tables_heads(servers, projection, cache) -> None:
    choose, project = random.Random(11), f"p{uuid4().hex[:10]}"
    names = [f"n{n}" for n in range(50)]
    places = [(project, name) for name in names]
    seen: dict[str, int] = {}

    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(relaying(servers, projection))
        for offset in range(0, 400, 20):
            batch = []
            for n in range(20):
                name = choose.choice(names)
                asked = choose.choice([created(name), moved(1, "production", name=name), archived(name)])
                batch.append(record(asked, offset + n, project=project))
            await projection.fold(*batch)
            for found in await cache.look(places):
                if isinstance(found, PromptHead) and found.revision:
                    assert found.revision >= seen.get(found.name, 0)
                    seen[found.name] = found.revision
            if choose.random() < 0.3:
                await projection.pool.execute("UPDATE prompt_outbox SET revision = revision")  # another order on disk
        await until(lambda: emptied(projection), what="an empty outbox")
    heads = await read_heads(projection.pool, places)
    told = dict(zip(places, await cache.look(places), strict=True))
    changed = {place: head for place, head in heads.items() if head.revision}
    assert len(changed) > 30
    assert {place: told[place] for place in changed} == changed
    assert any(head.archived for head in changed.values()), "an archived prompt has a head as well"


async def test_what_is_gone_from_the_tables_does_not_wait_for_ever(servers, projection) -> None:
    await projection.pool.execute("INSERT INTO prompt_outbox VALUES ($1, 'gone', 7)", f"p{uuid4().hex[:10]}")
    async with relaying(servers, projection):
        await until(lambda: emptied(projection))


async def emptied(projection: Deciding) -> bool:
    return bool(await projection.rows("SELECT count(*) FROM prompt_outbox") == [(0,)])


async def test_a_relay_ends_when_it_is_cancelled(servers, projection) -> None:
    async with asyncio.timeout(10):
        for _ in range(5):
            async with relaying(servers, projection):
                await projection.fold()
