"""TailTraces tells each change of a trace once, in the order of commits, whatever clocks say. On a real Postgres."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import asyncpg
from lodestream_proto.v1.query_pb2 import TailTracesRequest, TraceFilter

from services.read.query.database import Database
from services.read.query.tail import ChangePoller, current_snapshot, tail_traces
from shared.storage.postgres import connect_pool
from tests.support.polling import until
from tests.support.projecting import projecting
from tests.support.records import NOON, record, span

Told = tuple[int, int]
"""A trace, and how many spans it had."""


class CountingPool:
    """A pool that counts its queries: those of snapshots, and those of rows by project."""

    def __init__(self, pool: asyncpg.Pool, queries: Counter[str]) -> None:
        self._pool, self._queries = pool, queries

    async def fetchval(self, query: str, *arguments: object) -> Any:
        self._queries["snapshot"] += 1
        return await self._pool.fetchval(query, *arguments)

    async def fetch(self, query: str, *arguments: object) -> Any:
        if isinstance(arguments[0], str):
            self._queries[arguments[0]] += 1
        return await self._pool.fetch(query, *arguments)


@asynccontextmanager
async def tailing(dsn: str, project: str = "p", **wanted: Any) -> AsyncIterator[list[Told]]:
    """What a stream of the project has been told so far."""
    async with tailing_together(dsn, [project], Counter(), **wanted) as (told,):
        yield told


@asynccontextmanager
async def tailing_together(
    dsn: str, projects: Sequence[str], queries: Counter[str], **wanted: Any
) -> AsyncIterator[list[list[Told]]]:
    """What streams of these projects have been told so far, by one process."""
    connections = await connect_pool(dsn, application="test", max_size=2)
    pool: Any = CountingPool(connections, queries)
    database, request = Database(pool, pool), TailTracesRequest(filter=TraceFilter(**wanted))
    poller, since = ChangePoller(database), await current_snapshot(database)
    told: list[list[Told]] = [[] for _ in projects]

    async def listen(project: str, told: list[Told]) -> None:
        async for change in tail_traces(database, poller, project, request, since=since):
            trace = change.trace
            told.append((int(trace.trace_id, 16), trace.span_count))

    tasks = [asyncio.create_task(listen(*each)) for each in zip(projects, told, strict=True)]
    try:
        yield told
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        connections.terminate()


async def test_no_clock_makes_it_deaf(database: str) -> None:
    far = datetime(9892, 1, 1, tzinfo=UTC)
    times = [NOON, far, NOON, NOON + timedelta(seconds=60), NOON - timedelta(days=400), NOON]
    records = [record([span(n, 1)], offset=n, received_at=received_at) for n, received_at in enumerate(times)]
    records.append(record([span(0, 2)], offset=len(times), received_at=NOON - timedelta(days=1)))
    async with projecting(database) as process, tailing(database) as told:
        for number, each in enumerate(records, start=1):
            await process.fold(each)
            await until(partial(_has, told, number), what=f"the trace of record {number - 1}")
        assert told == [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (0, 2)]
        stored = await process.pool.fetchval("SELECT max(last_received_at) FROM traces")
        assert stored <= NOON + timedelta(days=1, seconds=1), "a clock that is far ahead of the log's is not believed"


async def test_what_commits_late_is_told_and_nothing_is_told_twice(database: str) -> None:
    async with projecting(database) as process, tailing(database) as told:
        await process.fold(record([span(1, 1)], offset=0))
        await until(partial(_has, told, 1))
        async with process.pool.acquire() as connection, connection.transaction():
            await connection.execute("UPDATE traces SET span_count = 7, changed_by = pg_current_xact_id()")
            for number in (2, 3):  # begin later, and are told while the earlier one is open
                await process.fold(record([span(number, 1)], partition=1, offset=number - 2))
                await until(partial(_has, told, number))
        await until(partial(_has, told, 4), what="what committed late")
        assert told == [(1, 1), (2, 1), (3, 1), (1, 7)]


async def test_a_restarted_projection_tells_nothing_again(database: str) -> None:
    records = [record([span(number, 1)], offset=number) for number in range(4)]
    async with tailing(database) as told:
        for ended in (3, 4):
            async with projecting(database) as process:
                await process.fold(*records[:ended])
        await until(lambda: (3, 1) in told)
        assert sorted(told) == [(0, 1), (1, 1), (2, 1), (3, 1)]


async def test_a_large_batch_is_told_whole_and_only_to_whom_it_belongs(database: str) -> None:
    async with (
        projecting(database) as process,
        tailing(database) as told,
        tailing(database, "other") as others,
        tailing(database, names=["rare"]) as rare,
    ):
        spans = [span(number, 1, name="rare" if number == 700 else "step") for number in range(1_200)]
        await process.fold(record(spans, offset=0))
        await until(partial(_has, told, 1_200))
        await process.fold(record([span(5_000, 1)], offset=1), record([span(5_001, 1)], offset=2, project="other"))
        await until(lambda: told[-1:] == [(5_000, 1)] and others)
        assert sorted(told) == [*((number, 1) for number in range(1_200)), (5_000, 1)]
        assert (others, rare) == ([(5_001, 1)], [(700, 1)])


async def test_tails_of_a_process_look_together_and_only_changes_of_the_own_project_are_read(database: str) -> None:
    queries: Counter[str] = Counter()
    async with projecting(database) as process, tailing_together(database, ["p", "p", "quiet"], queries) as told:
        await process.fold(record([span(0, 1)], offset=0), record([span(0, 1)], partition=1, offset=0, project="quiet"))
        await until(lambda: all(told))
        began, before = time.monotonic(), Counter(queries)
        for number in range(1, 6):
            await process.fold(record([span(number, 1)], offset=number))
            await until(lambda: all(_has(each, number + 1) for each in told[:2]))  # noqa: B023 - awaited here
        took = time.monotonic() - began
        assert queries["quiet"] == before["quiet"]
        assert queries["snapshot"] - before["snapshot"] <= took / 0.2 + 2
        assert told == [[(number, 1) for number in range(6)]] * 2 + [[(0, 1)]]


def _has(told: list[Told], count: int) -> bool:
    return len(told) >= count
