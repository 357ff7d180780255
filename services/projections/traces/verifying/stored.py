"""The tables of a read model, read by SQL of their own, in one snapshot with the positions that they stand at."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import orjson

from services.projections.traces.rows import SpanRef, SpanRow, TraceRow

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
_SAME = tuple(name for name in SpanRow.__slots__ if name not in {"start_at_us", "end_at_us", "usage", "cost", "parts"})
_BUSY = ("retrieval_busy", "generation_busy", "tool_busy", "child_busy")
_TIMES = {name: name.removesuffix("_us") for name in TraceRow.__slots__ if name.endswith("_at_us")}
Place = tuple[int, int, int]
"""Partition, offset and item (-1: the whole record)."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A snapshot."""

    connection: asyncpg.Connection
    positions: Mapping[int, int]
    spans_since: date
    """Spans of earlier days have no table any more."""
    blocks_since: date

    async def spans(self) -> AsyncIterator[asyncpg.Record]:
        """All rows, trace by trace."""
        async for row in self.connection.cursor(f"{_SPANS} ORDER BY project_id, trace_id", prefetch=2_000):
            yield row

    async def span(self, key: tuple[str, bytes, bytes, date]) -> SpanRow | None:
        """One row."""
        where = "WHERE project_id = $1 AND trace_id = $2 AND span_id = $3 AND start_day = $4"
        row = await self.connection.fetchrow(f"{_SPANS} {where}", *key)
        return span_row(row) if row else None

    async def blocks(self) -> AsyncIterator[asyncpg.Record]:
        """All rows in the order of the log, a digest instead of the bytes."""
        async for row in self.connection.cursor(_BLOCKS, prefetch=2_000):
            yield row

    async def traces(self, keys: list[tuple[str, bytes]]) -> dict[tuple[str, bytes], asyncpg.Record]:
        """These summaries."""
        columns = [list(column) for column in zip(*keys, strict=True)]
        rows = await self.connection.fetch(_TRACES, *columns)
        return {(row["project_id"], row["trace_id"]): row for row in rows}

    async def traces_without_spans(self) -> AsyncIterator[asyncpg.Record]:
        """Summaries of nothing."""
        async for row in self.connection.cursor(_LONELY_TRACES, self.spans_since, prefetch=500):
            yield row

    async def letters(self) -> dict[Place, bytes]:
        """What is set aside, and a digest of its bytes."""
        rows = await self.connection.fetch(_LETTERS)
        return {(row["partition"], row["offset"], row["item"]): row["digest"] for row in rows}

    async def overflow(self) -> dict[int, int]:
        """How many dead letters of each partition were counted and not kept."""
        return {row["partition"]: row["letters"] for row in await self.connection.fetch(_OVERFLOW)}

    async def parked(self) -> set[tuple[int, int]]:
        """Partition and offset of the records that wait for a later version."""
        return {(row["partition"], row["offset"]) for row in await self.connection.fetch(_PARKED)}


@asynccontextmanager
async def stored(dsn: str) -> AsyncIterator[Stored]:
    """The read model as it is now, and stays while we look: the projection goes on meanwhile."""
    settings = {"search_path": "traces, lodestream", "timezone": "UTC", "application_name": "lodestream-verify"}
    connection = await asyncpg.connect(dsn, timeout=10, server_settings=settings)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            rows = await connection.fetch(_POSITIONS)
            since = [await _since(connection, table) for table in ("spans", "span_blocks")]
            yield Stored(connection, {row["partition"]: row["next_offset"] for row in rows}, *since)
    finally:
        await connection.close()


async def _since(connection: asyncpg.Connection, table: str) -> date:
    """Where the days begin that are kept: at the beginning, while the partition of all earlier days is there."""
    bounds = [row["bound"] for row in await connection.fetch(_BOUNDS, table)]
    days = [bound.partition("('")[2][:10] for bound in bounds if "(MINVALUE)" not in bound]
    return date.fromisoformat(min(days)) if days and len(days) == len(bounds) else date.min


def parts_of(row: Mapping[str, Any]) -> tuple[SpanRef, ...]:
    """The tellings that a row says it is made of."""
    if numbers := row["parts"]:
        return tuple(SpanRef(*numbers[n : n + 4]) for n in range(0, len(numbers), 4))
    return (SpanRef(_us(row["received_at"]), row["block_partition"], row["block_offset"], row["block_index"]),)


def span_row(row: Mapping[str, Any]) -> SpanRow:
    """A row of `spans` as the fold makes them."""
    same: dict[str, Any] = {name: row[name] for name in _SAME}
    return SpanRow(
        **same,
        start_at_us=_us(row["start_at"]),
        end_at_us=None if row["end_at"] is None else _us(row["end_at"]),
        usage=None if row["usage"] is None else orjson.loads(row["usage"]),
        cost=None if row["cost"] is None else orjson.loads(row["cost"]),
        parts=parts_of(row),
    )


def differing(expected: TraceRow, row: Mapping[str, Any]) -> list[str]:
    """The columns in which a summary is not what it is expected to be."""
    found = []
    for name in TraceRow.__slots__:
        ours, theirs = getattr(expected, name), row[_TIMES.get(name, name)]
        if name in _TIMES:
            theirs = None if theirs is None else _us(theirs)
        elif name in _BUSY:
            theirs = [(each.lower, each.upper) for each in theirs]
        if ours != theirs:
            found.append(_TIMES.get(name, name))
    return found


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // _US


_POSITIONS = """
SELECT partition, next_offset FROM projection_positions WHERE projection = 'traces' AND topic = 'lodestream.traces'
"""
_BOUNDS = """
SELECT pg_get_expr(child.relpartbound, child.oid) AS bound
FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid WHERE inhparent = $1::text::regclass
"""
_SPANS = f"""
SELECT {", ".join(_SAME)}, start_at, end_at, usage, cost,
    received_at, block_partition, block_offset, block_index, parts
FROM spans
"""
_BLOCKS = """
SELECT project_id, partition, "offset", received_day, received_at, sdk_name, sdk_version, compression, span_count,
    sha256(otlp_request) AS digest
FROM span_blocks ORDER BY partition, "offset"
"""
_TRACES = """
SELECT traces.* FROM traces JOIN unnest($1::text[], $2::bytea[]) AS wanted (project_id, trace_id)
    USING (project_id, trace_id)
"""
_LONELY_TRACES = """
SELECT project_id, trace_id, start_at FROM traces
WHERE last_start_at::date >= $1 AND NOT EXISTS (
    SELECT FROM spans WHERE spans.project_id = traces.project_id AND spans.trace_id = traces.trace_id
)
"""
_OVERFLOW = """
SELECT partition, sum(letters)::bigint AS letters FROM dead_letter_overflow
WHERE projection = 'traces' AND topic = 'lodestream.traces' GROUP BY partition
"""
_PARKED = """
SELECT partition, "offset" FROM parked_records WHERE projection = 'traces' AND topic = 'lodestream.traces'
"""
_LETTERS = """
SELECT partition, "offset", item, sha256(raw) AS digest FROM dead_letters
WHERE projection = 'traces' AND topic = 'lodestream.traces' AND redriven_at IS NULL
"""
