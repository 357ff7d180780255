"""The content of spans, from the records that they came in, which are opened one after another, within bounds."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Self

import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.trace_pb2 import SpanContent, SpanEvent, SpanLink

from services.read.query.database import Database
from services.read.query.messages import datetime_of
from shared.runtime.fairness import FairLimiter, Turn
from shared.runtime.settings import MIB
from shared.spans.blocks import Located, ReceivedSpan, UnreadableBlockError, decompress, locate, opened_bytes
from shared.spans.dialects import read_content
from shared.spans.dialects.values import plain, to_json
from shared.storage.named_queries import load_queries

_GET_BLOCKS = load_queries(Path(__file__).with_name("traces.sql"))["get_blocks"]
_MAX_NS = 253_402_300_799 * 10**9  # the end of the year 9999, the last that a Timestamp holds
_FETCHED_AT_ONCE = 4  # records of the log, of at most about 1 MB each
_KEPT_BYTES = 16 * MIB  # opened, for the spans that come next
_LARGE_BYTES = 256 * 1024  # opening and reading so much takes some milliseconds: beside the event loop
MAX_REVISIONS = 100
"""Of a span with more revisions the newest are read."""
MAX_CONTENT_BYTES = 32 * MIB
"""The content of one span, at most; the gateway forwards answers of 64 MiB."""

RecordLocation = tuple[date, int, int]
"""A record of the log: the day when it was received, its partition, its offset."""


class OpenedEnoughError(Exception):
    """The answer has opened as much as it may; the span that is next belongs to the next page."""


@dataclass(slots=True)
class _Opened:
    request: bytes
    held: int
    """Bytes held of the memory that projects share."""
    spans: Mapping[int, Located]


class Contents:
    """The contents of one answer's spans."""

    def __init__(
        self, database: Database, project_id: str, turn: Turn, memory: FairLimiter, *, max_opened_bytes: int
    ) -> None:
        self._database, self._project_id, self._turn, self._memory = database, project_id, turn, memory
        self._may_open = max_opened_bytes
        self._expected: dict[RecordLocation, set[int]] = {}
        self._fetched: dict[RecordLocation, asyncpg.Record | None] = {}
        self._opened: OrderedDict[RecordLocation, _Opened | str] = OrderedDict()
        """The records that were opened last, or why they could not be."""

    @classmethod
    @asynccontextmanager
    async def opening(
        cls, database: Database, project_id: str, turn: Turn, memory: FairLimiter, *, max_opened_bytes: int
    ) -> AsyncIterator[Self]:
        """Open the contents of one answer; what is open at the end is closed."""
        contents = cls(database, project_id, turn, memory, max_opened_bytes=max_opened_bytes)
        try:
            yield contents
        finally:
            contents._close_all()

    def expect(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Expect the spans of some rows next, and forget those before."""
        self._close_all()
        self._fetched.clear()
        self._expected = {}
        for row in rows:
            for location, index in revisions_of(row):
                self._expected.setdefault(location, set()).add(index)

    async def of(self, row: Mapping[str, Any], *, is_first: bool) -> SpanContent:
        """Return the content of an expected span. Of the first span of an answer as much is read as may be opened.

        Raises OpenedEnoughError: the span is not the first, and as much as may be opened was.
        Raises OverloadedError: too much is open in this process.
        """
        sources: list[ReceivedSpan] = []
        size, why = 0, ""
        revisions = revisions_of(row)
        for location, index in reversed(revisions):
            try:
                block = await self._block(location)
            except OpenedEnoughError:
                if not is_first:
                    raise
                why = f"it came in {len(revisions)} parts, of which the newest {len(sources)} are read"
                break
            if isinstance(block, str):
                why = block
                continue
            if located := block.spans.get(index):
                size += located.end - located.begin
                try:
                    sources.append(await self._beside_if(size, located.read, block.request))
                except UnreadableBlockError as error:
                    why = str(error)
        merged = await self._beside_if(size, span_content, sources[::-1]) if sources else SpanContent()
        if (length := merged.ByteSize()) > MAX_CONTENT_BYTES:
            merged, why = SpanContent(), f"it has {length} bytes; at most {MAX_CONTENT_BYTES} are read"
        merged.unreadable = why
        return merged

    async def _block(self, location: RecordLocation) -> _Opened | str:
        if location not in self._opened:
            self._opened[location] = await self._open(location)
        self._opened.move_to_end(location)
        return self._opened[location]

    async def _open(self, location: RecordLocation) -> _Opened | str:
        row = await self._fetch(location)
        if row is None:
            return "the record it came in is gone"
        try:
            held = opened_bytes(row["compression"], row["otlp_request"])
        except UnreadableBlockError as error:
            return f"the record it came in can't be read: {error}"
        if held > self._may_open:
            raise OpenedEnoughError
        held = await self._hold(held)
        request, spans = b"", {}
        try:
            request = await self._beside_if(held, decompress, row["compression"], row["otlp_request"])
            names = {"sdk_name": row["sdk_name"], "sdk_version": row["sdk_version"]}
            for located in locate(request, self._expected[location], **names):
                if located:
                    spans[located.index] = located
                await self._turn.give()
        except UnreadableBlockError as error:
            self._memory.release(self._project_id, held)
            return f"the record it came in can't be read: {error}"
        except BaseException:
            self._memory.release(self._project_id, held)
            raise
        self._may_open -= len(request)
        return _Opened(request, held, spans)

    async def _hold(self, size: int) -> int:
        """Hold memory for so many bytes; while this waits for others, it holds nothing itself."""
        size = self._memory.share(size)
        while self._opened and sum(
            each.held for each in self._opened.values() if isinstance(each, _Opened)
        ) + size > max(_KEPT_BYTES, size):
            self._close(next(iter(self._opened)))
        if not self._memory.try_acquire(self._project_id, size):
            self._close_all()
            await self._memory.acquire(self._project_id, size)
        return size

    async def _fetch(self, location: RecordLocation) -> asyncpg.Record | None:
        if location not in self._fetched:
            expected = list(self._expected)
            expected = expected[expected.index(location) :]
            locations = [each for each in expected if each not in self._opened][:_FETCHED_AT_ONCE]
            days = {(partition, offset): day for day, partition, offset in locations}
            columns = [list(column) for column in zip(*locations, strict=True)]
            rows = await self._database.search_pool.fetch(_GET_BLOCKS, self._project_id, *columns)
            records = {(days[row["partition"], row["offset"]], row["partition"], row["offset"]): row for row in rows}
            self._fetched = {each: records.get(each) for each in locations}
        return self._fetched.pop(location)

    async def _beside_if(self, size: int, work: Any, *arguments: Any) -> Any:
        if size > _LARGE_BYTES:
            return await asyncio.to_thread(work, *arguments)
        await self._turn.give()
        return work(*arguments)

    def _close(self, location: RecordLocation) -> None:
        closed = self._opened.pop(location)
        if isinstance(closed, _Opened):
            self._memory.release(self._project_id, closed.held)

    def _close_all(self) -> None:
        for location in list(self._opened):
            self._close(location)


def revisions_of(row: Mapping[str, Any]) -> Sequence[tuple[RecordLocation, int]]:
    """Return where the revisions of a span are: records, and the index in each; the newest last."""
    numbers = row["parts"]
    if not numbers:
        location = row["received_at"].date(), row["block_partition"], row["block_offset"]
        return [(location, row["block_index"])]
    return [
        ((datetime_of(received).date(), partition, offset), index)
        for received, partition, offset, index in zip(*[iter(numbers[-4 * MAX_REVISIONS :])] * 4, strict=True)
    ]


def span_content(sources: Sequence[ReceivedSpan]) -> SpanContent:
    """Merge the revisions of a span into its content: as for the rows, a later value wins, an absent one never does."""
    in_order = sorted(sources, key=lambda source: source.span.end_time_unix_nano or source.span.start_time_unix_nano)
    merged = SpanContent()
    metadata: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    for source in in_order:
        cold = read_content(source)
        if cold.input is not None:
            merged.input = cold.input
        if cold.output is not None:
            merged.output = cold.output
        metadata |= cold.metadata
        parameters |= cold.model_parameters
        attributes |= cold.attributes
    last = in_order[-1]
    merged.metadata_json, merged.model_parameters_json = to_json(metadata), to_json(parameters)
    merged.attributes_json = to_json(attributes)
    merged.resource_json = to_json({key: plain(value) for key, value in last.origin.resource_attributes.items()})
    merged.scope = " ".join(filter(None, (last.origin.scope.name, last.origin.scope.version)))
    for event in last.span.events:
        shown = {attribute.key: plain(attribute.value) for attribute in event.attributes}
        merged.events.append(
            SpanEvent(name=event.name, time=_time(event.time_unix_nano), attributes_json=to_json(shown))
        )
    for link in last.span.links:
        shown = {attribute.key: plain(attribute.value) for attribute in link.attributes}
        merged.links.append(
            SpanLink(trace_id=link.trace_id.hex(), span_id=link.span_id.hex(), attributes_json=to_json(shown))
        )
    return merged


def _time(nanoseconds: int) -> Timestamp:
    seconds, nanos = divmod(min(nanoseconds, _MAX_NS), 10**9)
    return Timestamp(seconds=seconds, nanos=nanos)
