"""Small requests that arrive together share a record: they cost the log, Kafka and every reader one record, not many.

No request waits to be batched: one that comes alone is appended at once. Those that come while its record is under way,
or within some milliseconds, are appended together then, or as soon as they are enough for a record. So records grow
with the load, and a request waits at most for one acknowledgement more than its own.

Only requests of one project and one producer share a record, as these stand in its envelope. All are checked before:
nothing that is wrong with one can hurt another. (docs/decisions/0010)
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field, replace

from services.write.gateway.records import Envelope, span_record
from shared.event_log.append import Appender, LogUnavailableError
from shared.event_log.position import Position
from shared.event_log.topics import Lane
from shared.spans.blocks import compress

SMALL_BYTES = 64 * 1024
"""Larger requests gain nothing from sharing a record."""
_FULL_BYTES = 256 * 1024
_SPACING_SECONDS = 0.01
"""The time between two records of a key, unless the first is full: a record costs Kafka some 0.4 ms."""
_Key = tuple[str, str, str, Lane]


@dataclass(frozen=True, slots=True)
class SmallRequest:
    """A request that may share a record: its bytes, how many spans they hold, and the first one's trace."""

    envelope: Envelope
    otlp_request: bytes
    spans: int
    trace_id: bytes
    lane: Lane = Lane.EXPRESS

    @property
    def key(self) -> _Key:
        """The project, producer and lane that requests in one record have in common."""
        producer = self.envelope.producer
        return self.envelope.project_id, producer.name, producer.version, self.lane


@dataclass(slots=True)
class _Batch:
    """Requests of one key for the next record, each with the future of its position."""

    requests: list[tuple[SmallRequest, "asyncio.Future[Position]"]] = field(default_factory=list)
    size: int = 0


class RequestBatcher:
    """Appends small requests, several in one record where they come together. One per process."""

    def __init__(self, appender: Appender, *, ack_seconds: float) -> None:
        """A record is given up after `ack_seconds`, whatever the deadlines of its requests are."""
        self._appender, self._ack_seconds = appender, ack_seconds
        self._next: dict[_Key, _Batch] = {}
        self._under_way: Counter[_Key] = Counter()
        self._appending: set[asyncio.Task[None]] = set()

    async def append(self, request: SmallRequest, *, within: float) -> Position:
        """Return the position of the record that holds the request, once the log has it.

        Raises LogUnavailableError, after `within` seconds at the latest; as after any append, it may still be stored.
        """
        position = self._add(request)
        try:
            async with asyncio.timeout(within):
                return await position
        except TimeoutError:
            raise LogUnavailableError(f"the event log has not acknowledged within {within:.1f} s") from None

    def _add(self, request: SmallRequest) -> "asyncio.Future[Position]":
        loop, key = asyncio.get_running_loop(), request.key
        position: asyncio.Future[Position] = loop.create_future()
        batch = self._next.get(key)
        if batch is None:
            batch = self._next[key] = _Batch()
            if not self._under_way[key]:
                loop.call_soon(self._send, key, batch)  # soon: what has arrived in this turn of the loop is in it
        batch.requests.append((request, position))
        batch.size += len(request.otlp_request)
        if batch.size >= _FULL_BYTES:
            self._send(key, batch)
        return position

    def _send(self, key: _Key, batch: _Batch) -> None:
        if self._next.get(key) is not batch:  # it was full, and is under way
            return
        del self._next[key]
        # Callers who gave up meanwhile got UNAVAILABLE; the least surprise is that nothing of theirs is stored.
        waiting = [(request, position) for request, position in batch.requests if not position.done()]
        if not waiting:
            return
        self._under_way[key] += 1
        task = asyncio.create_task(self._append(key, waiting))
        self._appending.add(task)
        task.add_done_callback(self._appending.discard)

    async def _append(self, key: _Key, waiting: list[tuple[SmallRequest, "asyncio.Future[Position]"]]) -> None:
        first = waiting[0][0]
        # Requests one after the other are one request: protobuf's encoding of repeated fields.
        together = b"".join([request.otlp_request for request, _ in waiting])
        spans = sum(request.spans for request, _ in waiting)
        block = compress(together)
        record = span_record(first.envelope, first.trace_id, block, spans=spans, opened_bytes=len(together))
        record = replace(record, lane=first.lane)
        sent_at = time.monotonic()
        try:
            (appended,) = await self._appender.append([record], within=self._ack_seconds)
        except Exception as error:
            for _, position in waiting:
                if not position.done():
                    position.set_exception(error)
        else:
            for _, position in waiting:
                if not position.done():
                    position.set_result(appended)
        await asyncio.sleep(sent_at + _SPACING_SECONDS - time.monotonic())
        self._acknowledged(key)

    def _acknowledged(self, key: _Key) -> None:
        self._under_way[key] -= 1
        if self._under_way[key] > 0:
            return
        del self._under_way[key]
        if batch := self._next.get(key):
            self._send(key, batch)
