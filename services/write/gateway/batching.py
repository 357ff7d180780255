"""Small requests that arrive together share a record: to the log, to Kafka and to every reader they cost one, not many.

Nobody waits for company: a request that comes alone is appended at once. Those that come while its record is under
way, or within some milliseconds, gather, and go together then, or as soon as they are enough for a record. So records
grow with the load, and a request waits at most for one acknowledgement more than its own.

Only requests of one project and one producer share a record, as these stand in its envelope. All are judged before they
gather; nothing that is wrong with one can hurt another.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field, replace

from services.write.gateway.records import Envelope
from shared.event_log.append import Appender, LogUnavailableError
from shared.event_log.position import Position
from shared.event_log.topics import Lane
from shared.spans.blocks import compress

SMALL_BYTES = 64 * 1024
"""Larger requests gain nothing from company."""
_ENOUGH_BYTES = 256 * 1024
_APART_SECONDS = 0.01
"""Between two records of a key, unless the first is enough: a record costs Kafka some 0.4 ms."""
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
        """What requests in one record have in common: project, producer and lane."""
        producer = self.envelope.producer
        return self.envelope.project_id, producer.name, producer.version, self.lane


@dataclass(slots=True)
class _Gathering:
    """Requests of one key on their way into a record, and who waits for its position."""

    requests: list[tuple[SmallRequest, "asyncio.Future[Position]"]] = field(default_factory=list)
    size: int = 0


class Sharing:
    """Appends small requests, together where they come together. One for a process."""

    def __init__(self, appender: Appender, *, ack_seconds: float) -> None:
        """A record is given up after `ack_seconds`, whatever the deadlines of its requests are."""
        self._appender, self._ack_seconds = appender, ack_seconds
        self._gathering: dict[_Key, _Gathering] = {}
        self._under_way: Counter[_Key] = Counter()
        self._appending: set[asyncio.Task[None]] = set()

    async def append(self, request: SmallRequest, *, within: float) -> Position:
        """Where the record is that holds the request, once the log has it.

        Raises LogUnavailableError, after `within` seconds at the latest. Then nothing is known, as of any append.
        """
        position = self._join(request)
        try:
            async with asyncio.timeout(within):
                return await position
        except TimeoutError:
            raise LogUnavailableError(f"the event log has not acknowledged within {within:.1f} s") from None

    def _join(self, request: SmallRequest) -> "asyncio.Future[Position]":
        loop, key = asyncio.get_running_loop(), request.key
        position: asyncio.Future[Position] = loop.create_future()
        gathering = self._gathering.get(key)
        if gathering is None:
            gathering = self._gathering[key] = _Gathering()
            if not self._under_way[key]:
                loop.call_soon(self._send, key, gathering)  # soon: what has arrived in this turn comes along
        gathering.requests.append((request, position))
        gathering.size += len(request.otlp_request)
        if gathering.size >= _ENOUGH_BYTES:
            self._send(key, gathering)
        return position

    def _send(self, key: _Key, gathering: _Gathering) -> None:
        if self._gathering.get(key) is not gathering:  # it was enough, and is on its way
            return
        del self._gathering[key]
        # Whoever gave up meanwhile was told that nothing is known; the least surprise is that nothing is stored.
        waiting = [(request, position) for request, position in gathering.requests if not position.done()]
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
        record = first.envelope.record(first.trace_id, compress(together), spans, len(together))
        record = replace(record, lane=first.lane)
        departed = time.monotonic()
        try:
            (position,) = await self._appender.append([record], within=self._ack_seconds)
        except Exception as error:
            for _, its in waiting:
                if not its.done():
                    its.set_exception(error)
        else:
            for _, its in waiting:
                if not its.done():
                    its.set_result(position)
        await asyncio.sleep(departed + _APART_SECONDS - time.monotonic())
        self._landed(key)

    def _landed(self, key: _Key) -> None:
        self._under_way[key] -= 1
        if self._under_way[key] > 0:
            return
        del self._under_way[key]
        if gathering := self._gathering.get(key):
            self._send(key, gathering)
