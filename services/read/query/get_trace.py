"""GetTrace: the summary, the spans in start order, the critical path, and on request what the spans carry."""

import sys
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
from lodestream_proto.v1.query_pb2 import Freshness, GetTraceRequest, GetTraceResponse
from lodestream_proto.v1.trace_pb2 import AttachedScore

from services.read.query import messages
from services.read.query.contents import Contents, OpenedEnoughError
from services.read.query.database import Database
from services.read.query.paging import PAGE_BYTES, foreign_token, from_token, to_token, without_paging
from services.read.query.span_tree import SpanTree
from services.read.query.trace_scores import attached_scores, show_columns
from services.read.query.trace_spans import (
    AT_ONCE,
    BYTES_OF_A_SPAN,
    FIND_DAYS,
    SMALL,
    Position,
    Rows,
    Trace,
    TreeCache,
    position_of,
    read_behind,
    read_small,
    read_some,
)
from services.read.query.traces import find_trace
from shared.runtime.fairness import FairLimiter, Turn, Turns
from shared.runtime.refusal import InvalidError, NotFoundError
from shared.runtime.settings import QuerySettings

MAX_PAGE, MAX_IDS = 10_000, 1_000
_PIECE_BYTES = 64 * 1024  # of the answer; written one after another, so that none takes long
_SCORES_BYTES = PAGE_BYTES // 2
_Chunks = AsyncIterator[tuple[Rows, Collection[bytes] | None]]
"""Rows of spans in start order, and the ids of the critical ones; None where they are not known."""


@dataclass(slots=True)
class TraceAnswer:
    """A GetTraceResponse that is written piece by piece: written at once, a large one would stop the event loop."""

    message: GetTraceResponse = field(default_factory=GetTraceResponse)
    """The response without the spans that are written already."""
    nbytes: int = 0
    _written: list[bytes] = field(default_factory=list)
    _unwritten: int = 0

    @property
    def freshness(self) -> Freshness:
        """How fresh the answer is."""
        return self.message.freshness

    def ByteSize(self) -> int:  # noqa: N802 - as messages have it
        """Return the bytes of the spans and scores; what else there is is small."""
        return self.nbytes

    def count(self, nbytes: int) -> None:
        """Count the bytes of the last span, or of what else was added last."""
        self.nbytes += nbytes
        self._unwritten += nbytes
        if self._unwritten > _PIECE_BYTES:
            self._written.append(GetTraceResponse(spans=self.message.spans).SerializeToString())
            del self.message.spans[:]
            self._unwritten = 0

    def to_bytes(self) -> bytes:
        """Return the serialized message: its pieces, one after another, are the message."""
        return b"".join((*self._written, self.message.SerializeToString()))

    def to_message(self) -> GetTraceResponse:
        """Return the message as its reader sees it."""
        return GetTraceResponse.FromString(self.to_bytes())


class TraceReader:
    """Reads the traces of one process: what its calls share."""

    def __init__(self, settings: QuerySettings, turns: Turns) -> None:
        self._settings, self._turns = settings, turns
        self._memory = FairLimiter(
            "open traces",
            settings.memory_bytes,
            per_tenant=settings.memory_bytes_per_project,
            wait_seconds=settings.wait_seconds,
        )
        self._trees = TreeCache(self._memory)

    @property
    def max_spans(self) -> int:
        """The largest number of spans of which a tree is made."""
        return self._settings.trace_spans

    @asynccontextmanager
    async def open_tree(self, database: Database, trace: Trace) -> AsyncIterator[SpanTree]:
        """Open the tree of a trace that is not larger than `max_spans`, with memory to compute something of it.

        Raises OverloadedError: too much memory is in use.
        """
        if trace.span_count <= SMALL:
            yield (await read_small(database, trace))[1]
            return
        tree = await self._trees.of(database, trace)
        async with self._memory.hold(trace.project_id, len(tree) * BYTES_OF_A_SPAN):
            yield tree

    async def get_trace(self, database: Database, project_id: str, request: GetTraceRequest) -> TraceAnswer:
        """Return a trace, or a page of it.

        Raises RefusedError: a field can't be used, the project has no such trace, or it has too much under way.
        """
        trace_id = parse_id("trace_id", request.trace_id, size=16)
        bound, after = without_paging(request), _position(request)
        answer, size, limit = TraceAnswer(), _page_size(request), self._settings.answer_bytes
        if request.page_size:
            limit = min(limit, PAGE_BYTES)
        if after is None:
            row = await find_trace(database, project_id, trace_id)
        else:
            row = await database.point_pool.fetchrow(FIND_DAYS, project_id, trace_id)
        if row is None:
            raise NotFoundError(f"trace {request.trace_id}")
        if after is None:
            answer.message.MergeFrom(GetTraceResponse(trace=messages.trace_summary(row)))
        trace = Trace.of(project_id, trace_id, row)
        chunks = self._chunks(database, trace, _span_ids(request), after, at_once=min(size + 1, AT_ONCE))
        async with AsyncExitStack() as stack:
            page = _Page(answer, self._turns.of(project_id), size, limit)
            if request.with_content:
                may_open = self._settings.opened_bytes
                opening = Contents.opening(database, project_id, page.turn, self._memory, max_opened_bytes=may_open)
                page.contents = await stack.enter_async_context(opening)
            last = await page.fill(database, trace, chunks, first=after is None)
        if last:
            answer.message.next_page_token = to_token(bound, (last[0], last[1].hex()))
        if after is None and page.has_scores:
            await show_columns(database, project_id, [answer.message.trace])
        return answer

    async def _chunks(
        self, database: Database, trace: Trace, ids: frozenset[bytes], after: Position | None, *, at_once: int
    ) -> _Chunks:
        if trace.span_count <= SMALL:
            rows, tree = await read_small(database, trace)
            if ids or after:
                rows = [row for row in rows if _is_wanted(row, ids, after)]
            yield rows, tree.critical_ids(slice(None))
        elif trace.span_count <= self._settings.trace_spans:
            tree = await self._trees.of(database, trace)
            positions = tree.positions(ids) if ids else tree.positions()
            positions = positions[positions >= (tree.after(*after) if after else 0)]
            for begin in range(0, len(positions), at_once):
                some = positions[begin : begin + at_once]
                yield await read_some(database, trace, tree.ids(some)), tree.critical_ids(some)
        elif ids:
            yield [row for row in await read_some(database, trace, ids) if _is_wanted(row, ids, after)], None
        else:
            async for rows in read_behind(database, trace, after, at_once=at_once):
                yield rows, None


@dataclass(slots=True)
class _Page:
    """An answer that is being filled."""

    answer: TraceAnswer
    turn: Turn
    size: int
    """Spans, at most."""
    limit: int
    """Bytes; only a single span may have more."""
    contents: Contents | None = None
    spans: int = 0
    has_scores: bool = False

    async def fill(self, database: Database, trace: Trace, chunks: _Chunks, *, first: bool) -> Position | None:
        """Write spans as long as there is room, and return where that ended; None is the end of the trace."""
        last = None
        async for rows, critical in chunks:
            self.answer.message.critical_path_unknown = critical is None
            ids = [row["span_id"] for row in rows]
            scores, more = await attached_scores(database, trace.project_id, trace.trace_id, ids, of_trace=first)
            self.has_scores = self.has_scores or bool(scores)
            self._add_scores_of_trace(scores.pop(None, []))
            self.answer.message.scores_truncated |= more
            first = False
            if self.contents:
                self.contents.expect(rows)
            for row in rows:
                await self.turn.give()
                if not await self._add(row, scores.get(row["span_id"], ()), critical or ()):
                    return last
                self.spans, last = self.spans + 1, position_of(row)
        return None

    def _add_scores_of_trace(self, scores: Collection[AttachedScore]) -> None:
        for score in scores:
            nbytes = score.ByteSize()
            if self.answer.nbytes + nbytes > _SCORES_BYTES:
                self.answer.message.scores_truncated = True
                break
            self.answer.message.scores.append(score)
            self.answer.count(nbytes)

    async def _add(self, row: asyncpg.Record, scores: Collection[AttachedScore], critical: Collection[bytes]) -> bool:
        """Write one span, and return whether there was room for it."""
        if self.spans == self.size:
            return False
        spans, room = self.answer.message.spans, self.limit - self.answer.nbytes
        span = spans.add(**messages.span(row, critical=row["span_id"] in critical))
        span.scores.extend(scores)
        try:
            if self.contents and span.ByteSize() <= room:
                span.content.CopyFrom(await self.contents.of(row, is_first=not self.spans))
            nbytes = span.ByteSize()
        except OpenedEnoughError:
            nbytes = self.limit + 1
        if nbytes > room and self.spans:
            del spans[-1]
            return False
        self.answer.count(nbytes)
        return True


def parse_id(name: str, text: str, *, size: int) -> bytes:
    """Return the bytes of an id in hex digits; `name` is that of its field.

    Raises RefusedError naming the field.
    """
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != size or len(text) != 2 * size:
        raise InvalidError(name, f"must be {2 * size} hex digits")
    return raw


def _span_ids(request: GetTraceRequest) -> frozenset[bytes]:
    if len(request.span_ids) > MAX_IDS:
        raise InvalidError("span_ids", f"{len(request.span_ids)} ids; at most {MAX_IDS:,}")
    return frozenset(parse_id(f"span_ids[{n}]", text, size=8) for n, text in enumerate(request.span_ids))


def _page_size(request: GetTraceRequest) -> int:
    if request.page_size > MAX_PAGE:
        raise InvalidError("page_size", f"{request.page_size} is more than {MAX_PAGE}")
    return request.page_size or sys.maxsize


def _position(request: GetTraceRequest) -> Position | None:
    keys = from_token(without_paging(request), request.page_token, int, str)
    try:
        return (keys[0], parse_id("page_token", keys[1], size=8)) if keys else None
    except InvalidError:
        raise foreign_token() from None


def _is_wanted(row: asyncpg.Record, ids: frozenset[bytes], after: Position | None) -> bool:
    return (not ids or row["span_id"] in ids) and (after is None or position_of(row) > after)
