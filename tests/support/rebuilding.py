"""A projection's commands as processes, what they tell, and read models as texts to be compared."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson
from aiokafka import TopicPartition

from shared.event_log.codec import read
from shared.event_log.topics import TRACES
from tests.support.log_access import append, consumer_of, ends
from tests.support.projecting import projecting
from tests.support.records import NOON, event, span

TABLES = ("spans", "span_blocks", "traces", "sessions")
Dump = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended, and what it told."""

    code: int
    events: Sequence[dict[str, Any]]
    err: str

    def told(self, event: str) -> dict[str, Any]:
        """The last event of this name."""
        found = [told for told in self.events if told["event"] == event]
        assert found, (event, self.events[-3:], self.err)
        return found[-1]


async def start(words: Sequence[str], **environment: str) -> asyncio.subprocess.Process:
    """A command of the traces projection."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.projections.traces", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
        limit=16 * 1024 * 1024,
    )


async def finished(process: asyncio.subprocess.Process, *, deadline: float = 150) -> Ran:
    """Its end; one that does not come fails the test, with what was told until then."""
    watch = asyncio.get_running_loop().call_later(deadline, process.kill)
    out, err = await process.communicate()
    late = watch.when() <= asyncio.get_running_loop().time()
    watch.cancel()
    assert process.returncode is not None
    ran = Ran(process.returncode, [orjson.loads(line) for line in out.splitlines()], err.decode())
    assert not late, (f"not within {deadline} s", ran.events[-5:], ran.err)
    return ran


async def run(*words: str, **environment: str) -> Ran:
    """A command from its start to its end."""
    return await finished(await start(words, **environment))


_ROWS = "SELECT (to_jsonb(t) - 'changed_by')::text FROM {schema}.{table} t ORDER BY 1"


async def dump(dsn: str, schema: str = "traces") -> Dump:
    """Every row of every table, as text, in order."""
    connection = await asyncpg.connect(dsn, server_settings={"timezone": "UTC"})
    try:
        return {
            table: [row[0] for row in await connection.fetch(_ROWS.format(schema=schema, table=table))]
            for table in TABLES
        }
    finally:
        await connection.close()


async def fetch(dsn: str, query: str, *arguments: object) -> list[tuple[Any, ...]]:
    """Rows of a query of the test's own."""
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "traces, lodestream", "timezone": "UTC"})
    try:
        return [tuple(row) for row in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()


async def folded_anew(kafka: str, dsn: str) -> Dump:
    """What the log comes to, folded from its beginning into this fresh database in one go, without processes."""
    last = await ends(kafka)
    async with projecting(dsn) as projection, consumer_of(kafka) as consumer:
        for number, end in last.items():
            partition = TopicPartition(TRACES, number)
            consumer.assign([partition])
            consumer.seek(partition, 0)
            while end and await consumer.position(partition) < end:
                fetched = await consumer.getmany(partition, timeout_ms=1_000, max_records=50)
                await projection.fold(
                    *(
                        read(TRACES, number, each.offset, each.timestamp, each.value)
                        for each in fetched.get(partition, [])
                    )
                )
    return await dump(dsn)


async def caught_up(kafka: str, dsn: str) -> bool:
    """Whether the live projection has folded all of the log."""
    rows = await fetch(dsn, "SELECT partition, next_offset FROM projection_positions WHERE projection = 'traces'")
    folded = dict(rows)
    return all(folded.get(partition, 0) == end for partition, end in (await ends(kafka)).items())


def story(first: int, count: int, *, project: str = "p") -> list[tuple[int, bytes]]:
    """Records of many sorts: spans told once, started and ended apart, sent again, of several days, and poison."""
    records = []
    for n in range(first, first + count):
        trace, number = n // 5 + 1, 4 * n + 1
        spans = [span(trace, number, name=f"step {n}"), span(trace, number + 1, parent=number, start_ms=n % 1_000)]
        if n % 3 == 0:
            spans.append(span(trace, number + 2, end_ms=None, attributes={"user.id": f"u{n % 7}"}))
        if n % 3 == 1:
            spans.append(span((n - 1) // 5 + 1, 4 * (n - 1) + 3, end_ms=500, attributes={"session.id": f"s{n % 4}"}))
        if n % 11 == 0:
            spans.append(span(trace, number + 3, start_ms=-86_400_000 * (n % 3)))
        raw = event(spans, project=project, received_at=NOON).SerializeToString()
        records.append((n % 12, raw))
        if n % 7 == 0:
            records.append(((n + 5) % 12, raw))
        if n % 50 == 49:
            spans[0].span_id = b"\x01"
            records.append(((n + 1) % 12, b"\xff garbage"))
            records.append(((n + 2) % 12, event(spans, project=project).SerializeToString()))
    return records


@asynccontextmanager
async def writing(kafka: str, first: int) -> AsyncIterator[Callable[[], int]]:
    """Stories that are appended all the time; gives how many records' numbers were."""
    stop, written = asyncio.Event(), 0

    async def write() -> None:
        nonlocal written
        while not stop.is_set():
            await append(kafka, story(first + written, 5))
            written += 5
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.2)

    task = asyncio.create_task(write())
    try:
        yield lambda: written
    finally:
        stop.set()
        await task
