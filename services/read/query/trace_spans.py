"""The rows of one trace's spans, some at a time, and its tree, which is cached for the next page."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
from numpy.typing import NDArray

from services.read.query.database import Database
from services.read.query.messages import datetime_of, microseconds_since_1970
from services.read.query.span_tree import COLUMNS, RUNNING, SpanTree
from shared.runtime.fairness import FairLimiter
from shared.runtime.settings import MIB
from shared.runtime.single_flight import SingleFlight
from shared.storage.named_queries import load_queries

_QUERIES = load_queries(Path(__file__).with_name("traces.sql"))
_GET_SPANS = _QUERIES["get_spans"]
GET_ALL = _GET_SPANS.format(conditions="", limit="")
GET_SOME = _GET_SPANS.format(conditions="AND span_id = ANY($5::bytea[])", limit="")
GET_NEXT = _GET_SPANS.format(conditions="AND (start_at, span_id) > ($5, $6)", limit="LIMIT $7")
FIND_DAYS = _QUERIES["find_trace_days"]
_GET_TREE = _QUERIES["get_span_tree"]
SMALL = 1_000
"""A trace of so many spans is read at once."""
AT_ONCE = 500
"""Rows that are read of a larger trace at a time: asyncpg takes 5 ms of the event loop for them."""
_FIRST = datetime.min.replace(tzinfo=UTC)
_2000 = 946_684_800_000_000  # µs since 1970: where Postgres begins to count
_COPY_HEAD, _COPY_TAIL = 19, 2  # bytes around the rows of a binary COPY without extensions
# A row of get_span_tree: how many columns, then each with its length before it.
_COPIED = np.dtype(
    [("columns", ">i2")]
    + [
        field
        for name, kind in (
            ("span_id", ">u8"), ("parent_id", ">u8"), ("start", ">i8"), ("end", ">i8"), ("name", ">i8"),
            ("type", ">i2"), ("level", ">i2"),
        )
        for field in ((f"length of {name}", ">i4"), (name, kind))
    ]
)  # fmt: skip
BYTES_OF_A_SPAN = 250
"""Memory that a span takes while its tree is made, or folded."""
_CACHED_BYTES = 64 * MIB

Rows = Sequence[asyncpg.Record]
Position = tuple[int, bytes]
"""A position in start order: microseconds since 1970, and the id of a span."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace, as of when it was last changed."""

    project_id: str
    trace_id: bytes
    days: tuple[date, date]
    """The first and the last day in which its spans start."""
    span_count: int
    last_received_at: datetime

    @classmethod
    def of(cls, project_id: str, trace_id: bytes, row: Mapping[str, Any]) -> "Trace":
        """Return the trace of a row of list_traces or find_trace_days."""
        days = row["start_at"].date(), row["last_start_at"].date()
        return cls(project_id, trace_id, days, row["span_count"], row["last_received_at"])

    @property
    def key(self) -> tuple[Any, ...]:
        """The first parameters of the trace's statements."""
        return self.project_id, self.trace_id, *self.days


class TreeCache:
    """The trees of large traces that were used last. One that is needed several times at once is made once."""

    def __init__(self, memory: FairLimiter) -> None:
        self._memory = memory
        self._made: OrderedDict[Trace, SpanTree] = OrderedDict()
        self._making: SingleFlight[SpanTree] = SingleFlight()

    async def of(self, database: Database, trace: Trace) -> SpanTree:
        """Return the tree of a trace.

        Raises OverloadedError: too much memory is in use.
        """
        if trace in self._made:
            self._made.move_to_end(trace)
            return self._made[trace]
        return await self._making.run(trace, lambda: self._make_and_keep(database, trace))

    async def _make_and_keep(self, database: Database, trace: Trace) -> SpanTree:
        tree = await self._make(database, trace)
        self._keep(trace, tree)
        return tree

    async def _make(self, database: Database, trace: Trace) -> SpanTree:
        async with self._memory.hold(trace.project_id, trace.span_count * BYTES_OF_A_SPAN):
            copied = bytearray()

            async def collect(piece: bytes) -> None:
                copied.extend(piece)

            async with database.search_pool.acquire() as connection:
                await connection.copy_from_query(_GET_TREE, *trace.key, output=collect, format="binary")
            return await asyncio.to_thread(lambda: SpanTree.of(_read_copy(copied)))

    def _keep(self, trace: Trace, tree: SpanTree) -> None:
        self._made[trace] = tree
        while sum(tree.nbytes for tree in self._made.values()) > _CACHED_BYTES:
            of_project = [each for each in self._made if each.project_id == trace.project_id]
            others = sum(tree.nbytes for each, tree in self._made.items() if each.project_id != trace.project_id)
            # A project that fills the cache makes room of its own trees first, until it has less than half.
            evicted = of_project[0] if others <= _CACHED_BYTES // 2 else next(iter(self._made))
            del self._made[evicted]


async def read_small(database: Database, trace: Trace) -> tuple[Rows, SpanTree]:
    """Read all spans of a small trace, in start order, and make their tree."""
    rows = one_each(await database.point_pool.fetch(GET_ALL, *trace.key))
    columns = [
        (
            int.from_bytes(row["span_id"]),
            int.from_bytes(row["parent_span_id"] or b""),
            microseconds_since_1970(row["start_at"]),
            microseconds_since_1970(row["end_at"]) if row["end_at"] else RUNNING,
            hash(row["name"]),
            row["type"],
            row["level"],
        )
        for row in rows
    ]
    return rows, SpanTree.of(np.array(columns, COLUMNS))


async def read_some(database: Database, trace: Trace, span_ids: Collection[bytes]) -> Rows:
    """Read some spans, in start order; those that the trace does not have are left out."""
    return one_each(await database.search_pool.fetch(GET_SOME, *trace.key, list(span_ids)))


async def read_behind(
    database: Database, trace: Trace, after: Position | None, *, at_once: int = AT_ONCE
) -> AsyncIterator[Rows]:
    """Read the spans behind a position in start order, without a tree.

    A span of which revisions start on two days may come twice.
    """
    start, span_id = (datetime_of(after[0]), after[1]) if after else (_FIRST, b"")
    while True:
        rows = await database.search_pool.fetch(GET_NEXT, *trace.key, start, span_id, at_once)
        if rows:
            yield rows
        if len(rows) < at_once:
            return
        start, span_id = rows[-1]["start_at"], rows[-1]["span_id"]


def position_of(row: Mapping[str, Any]) -> Position:
    """Return the position of a span in start order."""
    return microseconds_since_1970(row["start_at"]), row["span_id"]


def one_each(rows: Iterable[asyncpg.Record]) -> list[asyncpg.Record]:
    """Return one row for each span, in start order, as the rows are.

    A span of which revisions start on two days has two rows; the later one is shown.
    """
    by_id: dict[bytes, asyncpg.Record] = {}
    for row in rows:
        by_id.pop(row["span_id"], None)
        by_id[row["span_id"]] = row
    return list(by_id.values())


def _read_copy(copied: bytearray) -> NDArray[Any]:
    rows = np.frombuffer(
        copied, _COPIED, offset=_COPY_HEAD, count=(len(copied) - _COPY_HEAD - _COPY_TAIL) // _COPIED.itemsize
    )
    columns = np.empty(len(rows), COLUMNS)
    assert COLUMNS.names
    for name in COLUMNS.names:
        columns[name] = rows[name]
    running = columns["end"] == RUNNING  # -infinity
    columns["start"] += _2000
    columns["end"][~running] += _2000
    return columns
