"""The prompts projection dies at each step, and Redis does what it can do: Postgres holds each verdict once, Redis ends
where Postgres is, and nobody who reads Redis ever sees a prompt go back.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

import psutil
import pytest
from redis.asyncio import Redis

from services.all_in_one.processes import Process
from shared.event_log.topics import PROMPTS
from shared.storage.postgres import connect_pool
from shared.storage.prompt_cache import CacheAwayError, Miss, PromptCache
from shared.storage.prompt_rows import read_heads
from tests.support.log_access import append
from tests.support.polling import until
from tests.support.prompts import created, moved
from tests.support.read_model import Table, begin_at_the_end, get

MODULE = "services.projections.prompts"
REVISION = "SELECT revision FROM prompts WHERE project_id = $1"
WAITING = "SELECT count(*) FROM prompt_outbox"


@pytest.fixture
def project() -> str:
    return f"p{uuid4().hex[:10]}"


def environment_of(database: str, **more: str) -> dict[str, str]:
    """Each process in a group of its own: only the database knows where to read on, and nobody waits for the dead."""
    return {"LODESTREAM_POSTGRES": database, "LODESTREAM_PROMPTS_GROUP": f"test-{uuid4().hex[:10]}", **more}


async def tell(kafka: str, project: str, first: int, count: int) -> None:
    """Commands number `first` and on: versions 1 and 2, then moves between them, each a revision. One partition."""
    events = [
        created() if n < 2 else moved(n % 2 + 1, "production")
        for n in range(first, first + count)
    ]  # fmt: skip
    for event in events:
        event.project_id = project
    await append(kafka, [(0, event.SerializeToString()) for event in events], topic=PROMPTS)


@dataclass
class Reader:
    """Reads a prompt from Redis again and again, and fills it from Postgres where it knows nothing, like a gateway."""

    project: str
    cache: PromptCache
    pool: Any
    seen: list[int] = field(default_factory=list)

    async def look(self) -> int | None:
        """The revision that Redis knows now; None: none, or Redis is away."""
        place = self.project, "greet"
        try:
            (found,) = await self.cache.look([place])
            if not isinstance(found, Miss):
                self.seen.append(found.revision)
                return found.revision
            if found.ticket:
                heads = await read_heads(self.pool, [place])
                await self.cache.offer({place: (heads[place], found.ticket)})
        except CacheAwayError:
            pass
        return None

    async def keep_looking(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(0.005)

    async def follows(self, revision: int) -> bool:
        return await self.look() == revision


@asynccontextmanager
async def reading(project: str, dsn: str, redis: str) -> AsyncIterator[Reader]:
    """A reader that looks all the time until the end, and then has never seen the prompt go back."""
    cache, pool = PromptCache(redis, seconds=0.3), await connect_pool(dsn, application="test")
    reader = Reader(project, cache, pool)
    looking = asyncio.ensure_future(reader.keep_looking())
    try:
        yield reader
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await cache.aclose()
        await pool.close()
    assert reader.seen == sorted(reader.seen)
    assert len(set(reader.seen)) > 1, "it saw the prompt change"


@pytest.mark.parametrize("failpoint", ["prompts.written", "projection.committed", "prompts.read", "prompts.offered"])
@pytest.mark.parametrize("nth", [1, 2])
async def test_killed_at_each_step(servers, service, database, project, *, failpoint: str, nth: int) -> None:
    await begin_at_the_end(servers.kafka, database, "prompts", PROMPTS)
    table = Table(database, project)
    doomed = await service(MODULE, **environment_of(database, LODESTREAM_FAILPOINTS=f"{failpoint}=kill@{nth}"))
    told = 0
    while doomed.process.pid is not None:
        await tell(servers.kafka, project, told, 5)
        told += 5
        await until(partial(decided_or_dead, table, told, doomed.process), deadline=30)
    assert await doomed.process.ended() == -9
    async with reading(project, database, servers.redis) as reader:
        await service(MODULE, **environment_of(database))
        await tell(servers.kafka, project, told, 5)
        told += 5
        await until(lambda: reader.follows(told), deadline=30, what="Redis to know the last revision")
        await until(lambda: settled(table), what="an empty outbox")
        assert await table.value(REVISION, project) == told
        assert await table.value("SELECT count(*) FROM prompt_commands WHERE project_id = $1", project) == told
        assert await table.value("SELECT count(*) FROM prompt_versions WHERE project_id = $1", project) == 2


async def decided_or_dead(table: Table, told: int, process: Process) -> bool:
    return process.pid is None or (await table.value(REVISION, table.project) == told and await settled(table))


async def settled(table: Table) -> bool:
    return not await table.value(WAITING)


Fault = Callable[[Process, Redis], Awaitable[None]]


async def flush(_: Process, client: Redis) -> None:
    await client.flushall()


async def kill(process: Process, _: Redis) -> None:
    process.kill()
    await process.ended()


async def freeze(process: Process, _: Redis) -> None:
    process.pause()


async def fill(_: Process, client: Redis) -> None:
    await client.config_set("maxmemory", 1)


async def start(process: Process, _: Redis) -> None:
    await process.start()


async def thaw(process: Process, _: Redis) -> None:
    process.resume()


async def free(_: Process, client: Redis) -> None:
    await client.config_set("maxmemory", 0)


@pytest.mark.parametrize(
    ("strike", "heal"), [(flush, flush), (kill, start), (freeze, thaw), (fill, free)], ids=lambda fault: fault.__name__
)
async def test_redis_ends_where_postgres_is(
    servers, private_redis, service, database, project, *, strike: Fault, heal: Fault
) -> None:
    redis = await private_redis()
    await begin_at_the_end(servers.kafka, database, "prompts", PROMPTS)
    await service(MODULE, **environment_of(database, LODESTREAM_REDIS=redis.command.address))
    table = Table(database, project)
    async with (
        Redis.from_url(redis.command.address) as client,
        reading(project, database, redis.command.address) as reader,
    ):
        for told in range(0, 100, 10):
            await tell(servers.kafka, project, told, 10)
            await until(partial(decided, table, told + 10), what="the fold, which waits for nobody")
            if told == 20:
                await until(lambda: reader.follows(30))
                await strike(redis, client)
            if told == 60:
                await heal(redis, client)
        await until(lambda: reader.follows(100), deadline=15, what="Redis to know the last revision")
        await until(lambda: settled(table), what="an empty outbox")


async def decided(table: Table, revision: int) -> bool:
    return await table.value(REVISION, table.project) == revision


async def test_a_relay_that_slept_through_a_flush_is_late(servers, private_redis, service, database, project) -> None:
    """It has read the heads, and offers them when another process has told newer ones, and Redis has lost these."""
    redis = await private_redis()
    address = redis.command.address
    await begin_at_the_end(servers.kafka, database, "prompts", PROMPTS)
    zombie = await service(
        MODULE,
        **environment_of(database, LODESTREAM_REDIS=address, LODESTREAM_FAILPOINTS="prompts.read=pause"),
    )
    await tell(servers.kafka, project, 0, 5)
    await until(lambda: psutil.Process(zombie.process.pid).status() == psutil.STATUS_STOPPED, what="its sleep")
    await service(MODULE, **environment_of(database, LODESTREAM_REDIS=address))
    async with Redis.from_url(address) as client, reading(project, database, address) as reader:
        await until(lambda: reader.follows(5))
        await tell(servers.kafka, project, 5, 5)
        await until(lambda: reader.follows(10))
        await client.flushall()
        zombie.process.resume()
        await tell(servers.kafka, project, 10, 5)
        await until(lambda: reader.follows(15))
        await until(partial(settled, Table(database, project)))
        await until(lambda: offered(zombie.metrics), what="the late offer")


async def offered(metrics: str) -> bool:
    _, page = await asyncio.to_thread(get, metrics, "/metrics")
    return b"lodestream_prompt_cache_offers_total{" in page
