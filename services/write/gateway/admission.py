"""Whether a request is taken now: its project's quota, the log's state, and the bytes in flight."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
from google.protobuf.message import Message

from services.write.gateway import metrics
from shared.auth.authentication import Authenticator
from shared.auth.caller import project_of
from shared.event_log.append import Appender
from shared.event_log.topics import Lane
from shared.rules.json_texts import count_json_values
from shared.runtime.fairness import LoopLateness, Pacer, Turns
from shared.runtime.refusal import Context, InvalidError, RefusedError, UnavailableError
from shared.runtime.settings import GatewaySettings
from shared.runtime.token_bucket import Buckets

MAX_JSON_VALUES = 100_000
"""Names and values in all JSON texts of one payload: up to 10 MB and a tenth of a second while they are read."""
JSON_VALUES_PER_SPAN = 20
"""So many take the time that a span takes, and are charged as one."""
_QUICKLY_COUNTED = 1_000
_SPANS_PER_CALL = 50
"""Spans whose handling takes as long as what any call takes: 10 to 15 µs each, and 0.6 ms."""
_SLOW_DOWN_SECONDS = 0.2
_MAX_SLOWED_DOWN = 1_000


class OverQuotaError(UnavailableError):
    """The project sends more than its quota."""


class TooMuchError(RefusedError):
    """The parts of a request are too much together: nothing of it is kept, and it may be sent in parts."""

    def __init__(self, what: str) -> None:
        super().__init__(grpc.StatusCode.INVALID_ARGUMENT, f"request: {what}")


class Quotas:
    """How many bytes and spans each project may send to this process: token buckets.

    What was let in may overdraw them.
    """

    def __init__(
        self, *, bytes_per_second: float, spans_per_second: float, burst_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._clock = clock
        self._bytes = Buckets(bytes_per_second, bytes_per_second * burst_seconds, clock)
        self._spans = Buckets(spans_per_second, spans_per_second * burst_seconds, clock)

    def wait(self, project_id: str) -> float:
        """Return the seconds until the project may send again; 0.0 for now."""
        now = self._clock()
        return max(buckets.of(project_id).wait(now) for buckets in (self._bytes, self._spans))

    def take(self, project_id: str, *, size: int = 0, spans: int = 0) -> None:
        """Charge a project for what it has sent: bytes and spans."""
        now = self._clock()
        self._bytes.of(project_id).take(size, now)
        self._spans.of(project_id).take(spans, now)


def json_values(payload: Message, path: str) -> Iterator[tuple[str, int]]:
    """Count the names and values of each JSON text in a payload, before anything is built of them.

    JSON texts are the fields whose names end in `_json`. Yields the path of each, and its count.
    """
    for descriptor, value in payload.ListFields():
        field = f"{path}.{descriptor.name}"
        if isinstance(value, Message):
            yield from json_values(value, field)
        elif descriptor.message_type is not None:
            for n, each in enumerate(value):
                yield from json_values(each, f"{field}[{n}]")
        elif descriptor.name.endswith("_json"):
            yield field, count_json_values(value, enough=_QUICKLY_COUNTED)


class Admission:
    """Admits calls before their bytes are read, and limits what requests hold. One per process."""

    def __init__(
        self,
        settings: GatewaySettings,
        keys: Authenticator,
        appender: Appender,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys, self._appender = keys, appender
        self.lateness = LoopLateness(late_seconds=settings.late_seconds, clock=clock)
        self.pacer = Pacer(
            self.lateness,
            per_second=settings.fair_calls_per_second,
            burst_seconds=settings.quota_burst_seconds,
            wait_seconds=settings.ack_seconds,
            count=lambda outcome: metrics.PACED_CALLS.labels(outcome).inc(),
            clock=clock,
        )
        """The pace of each project's calls."""
        self.turns = Turns(has_others=self.pacer.tenants.has_others)
        """The turns that requests take at the event loop."""
        self._slowed_down = 0
        self._max_spans = settings.max_spans
        self._max_bytes, self._held = settings.max_in_flight_bytes, 0
        self._held_by: Counter[str] = Counter()
        self._fair_rates = Quotas(
            bytes_per_second=settings.fair_bytes_per_second,
            spans_per_second=settings.fair_spans_per_second,
            burst_seconds=settings.quota_burst_seconds,
            clock=clock,
        )
        self._quotas = Quotas(
            bytes_per_second=settings.quota_bytes_per_second,
            spans_per_second=settings.quota_spans_per_second,
            burst_seconds=settings.quota_burst_seconds,
            clock=clock,
        )

    async def project_of(self, context: Context) -> str:
        """Return the project of the call's API key.

        Raises RefusedError when the key is not valid or can't be checked.
        """
        return await project_of(self._keys, context)

    async def admit(self, context: Context) -> str:
        """Return the project of the call's API key, if a request of the project may be read now.

        Raises RefusedError when the key is not valid, OverQuotaError when the project is over its quota, and
        UnavailableError when the log takes no records or the gateway is full.
        """
        project_id = await self.project_of(context)
        if wait := self._quotas.wait(project_id):
            await self._slow_down(wait)
            self._check_quota(project_id)
        if reason := self._appender.unavailable:
            raise UnavailableError(reason, retry_seconds=2)
        self._find_room(project_id, 0)
        return project_id

    async def _slow_down(self, wait: float) -> None:
        """Delay a refusal: a client that calls again at once takes less of our time."""
        if self._slowed_down < _MAX_SLOWED_DOWN:
            self._slowed_down += 1
            try:
                await asyncio.sleep(min(wait, _SLOW_DOWN_SECONDS))
            finally:
                self._slowed_down -= 1

    @contextmanager
    def hold(self, project_id: str, size: int) -> "Iterator[Room]":
        """Hold room for a request of `size` bytes while this is entered.

        Raises UnavailableError when there is none, OverQuotaError when the quota is used up.
        """
        room = Room(self, project_id, self._max_spans)
        try:
            self._check_quota(project_id)  # again: others of the project may have come in while this one was read
            room.grow(size)
            yield room
        finally:
            self._release(project_id, room.size)

    def lane(self, project_id: str, *, size: int, spans: int) -> Lane:
        """Return the lane of spans of so many bytes: express within their project's fair rate, bulk beyond it."""
        if self._fair_rates.wait(project_id):
            return Lane.BULK
        self._fair_rates.take(project_id, size=size, spans=spans)
        return Lane.EXPRESS

    def count_spans(self, project_id: str, spans: int) -> None:
        """Charge the project's quota, and its pace with the work that the spans are."""
        self._quotas.take(project_id, spans=spans)
        self.pacer.charge(project_id, spans / _SPANS_PER_CALL)

    def reserve(self, project_id: str, size: int) -> None:
        """Charge the project's quota with bytes, and hold room for them.

        Raises UnavailableError when there is none.
        """
        self._find_room(project_id, size)
        self._quotas.take(project_id, size=size)
        self._held += size
        self._held_by[project_id] += size
        metrics.REQUEST_BYTES.set(self._held)

    def _release(self, project_id: str, size: int) -> None:
        self._held -= size
        self._held_by[project_id] -= size
        if not self._held_by[project_id]:
            del self._held_by[project_id]
        metrics.REQUEST_BYTES.set(self._held)

    def _check_quota(self, project_id: str) -> None:
        if wait := self._quotas.wait(project_id):
            raise OverQuotaError("the project is over its quota of bytes or spans a second", retry_seconds=wait)

    def _find_room(self, project_id: str, size: int) -> None:
        """Raise UnavailableError unless so many bytes fit: in all, and in the project's share.

        A project may hold as much as is free: half of all when it is alone, a third each when two want all they can
        get; and something is always left for one that holds nothing. (Choudhury and Hahne, "Dynamic queue
        length thresholds for shared-memory packet switches", 1998, with alpha = 1.)
        """
        in_flight = self._held + self._appender.in_flight_bytes
        if in_flight and in_flight + size >= self._max_bytes:  # a larger one than all the room gets it when it is alone
            raise UnavailableError(f"the gateway is full: {in_flight} bytes are in flight")
        if (mine := self._held_by[project_id]) and mine + size > self._max_bytes - in_flight:
            raise UnavailableError(f"the gateway is full for this project: {mine} of {in_flight} bytes are its own")


class Room:
    """What one request holds while it is handled, and what its project's quota was charged with."""

    __slots__ = ("_admission", "_max_spans", "_project_id", "_spans", "size")

    def __init__(self, admission: Admission, project_id: str, max_spans: int) -> None:
        self._admission, self._project_id = admission, project_id
        self._max_spans, self._spans, self.size = max_spans, 0, 0

    def grow(self, size: int) -> None:
        """Hold more bytes; raises UnavailableError when there is no room for them."""
        self._admission.reserve(self._project_id, size)
        self.size += size

    def charge_spans(self, spans: int) -> None:
        """Charge the quota with spans that are about to be handled.

        Raises TooMuchError when the request has too many with those before.
        """
        self._admission.count_spans(self._project_id, spans)
        self._spans += spans
        if self._spans > self._max_spans:
            raise TooMuchError(f"more than {self._max_spans} spans in one request")

    def charge_payload(self, payload: Message, path: str) -> None:
        """Charge the quota with a payload that holds no spans, before its JSON texts are read.

        It counts as one span, and as another for every JSON_VALUES_PER_SPAN names and values in its JSON texts.

        Raises InvalidError when these are too many to be read; TooMuchError when the request has too many with those
        of the payloads before.
        """
        counts = dict(json_values(payload, path))
        values = sum(counts.values())
        try:
            self.charge_spans(1 + values // JSON_VALUES_PER_SPAN)
        except TooMuchError:
            most = self._max_spans * JSON_VALUES_PER_SPAN
            raise TooMuchError(f"more than {most} names and values in the JSON texts of one request") from None
        if values > MAX_JSON_VALUES:
            largest = max(counts, key=counts.__getitem__)
            with_others = f", {values} with what is beside it" if values > counts[largest] else ""
            why = f"has {counts[largest]} names and values{with_others}; at most {MAX_JSON_VALUES} are taken"
            raise InvalidError(largest, why)
