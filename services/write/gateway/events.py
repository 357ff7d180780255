"""Native events: which of a request can be taken, and as what records."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import zstandard
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.ingest_pb2 import RecordRequest
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_ZSTD, SpansRecorded

from services.write.gateway.producer import limited, producer_of
from services.write.gateway.records import Envelope, new_event_id
from services.write.gateway.wire import WireError, reason_of, split
from services.write.gateway.writing import Checked, check
from shared.read_model.blocks import UnreadableBlockError, decompress
from shared.runtime.refusal import Context, InvalidError
from shared.runtime.settings import GatewaySettings

OTLP_REQUEST = "spans_recorded.otlp_request"
_YEAR_10000 = 253_402_300_800  # seconds since 1970; what a Timestamp must stay below


@dataclass(frozen=True, slots=True)
class CheckedEvent:
    """An event's id, given or made, and its spans; or the field that is wrong, and how."""

    event_id: str
    spans: Checked | None = None
    field: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class UnreadableEvent:
    """Bytes in the place of an event that are none."""

    index: int
    reason: str


def read_events(request: bytes, max_events: int) -> Sequence[Event | UnreadableEvent]:
    """The events of a RecordRequest.

    Raises InvalidError when it is none, or has too many.
    """
    try:
        events: Sequence[Event | UnreadableEvent] = RecordRequest.FromString(request).events
    except DecodeError:
        try:
            parts, _ = split(request, 1, "request")
        except WireError as error:
            raise InvalidError("request", f"is no RecordRequest: {error}") from None
        events = [_read(part, index) for index, part in enumerate(parts)]
    if len(events) > max_events:
        raise InvalidError("events", f"{len(events)} events in one request; at most {max_events} are taken")
    return events


def check_event(
    event: Event | UnreadableEvent, project_id: str, context: Context, settings: GatewaySettings
) -> CheckedEvent:
    """What can be kept of an event, under the project of the key, whatever the event says."""
    if isinstance(event, UnreadableEvent):
        return CheckedEvent("", field=f"events[{event.index}]", reason=event.reason)
    try:
        event_id = _event_id(event)
        received_at = Timestamp()
        received_at.GetCurrentTime()
        occurred_at = _occurred_at(event) or received_at
        recorded = _spans_recorded(event)
        producer = limited(event.producer) if event.producer.name else producer_of(context)
        envelope = Envelope(project_id, producer, event_id, received_at, occurred_at)
        checked = check(
            _opened(recorded, settings.max_message_bytes),
            lambda _: envelope,
            field=OTLP_REQUEST,
            max_spans=settings.max_spans,
            block=recorded.otlp_request if recorded.compression == COMPRESSION_ZSTD else None,
        )
    except InvalidError as invalid:
        return CheckedEvent(event.event_id, field=invalid.field, reason=invalid.why)
    empty = "" if checked.spans else "has no spans"
    return CheckedEvent(event_id, checked, field=OTLP_REQUEST if empty else "", reason=empty)


def _read(part: bytes, index: int) -> Event | UnreadableEvent:
    try:
        return Event.FromString(part)
    except DecodeError as error:
        return UnreadableEvent(index, reason_of(error))


def _event_id(event: Event) -> str:
    if not event.event_id:
        return new_event_id()
    try:
        if str(uuid.UUID(event.event_id)) == event.event_id:
            return event.event_id
    except ValueError:
        pass
    raise InvalidError("event_id", "is no UUID in its canonical form")


def _occurred_at(event: Event) -> Timestamp | None:
    if not event.HasField("occurred_at"):
        return None
    if not (0 <= event.occurred_at.seconds < _YEAR_10000 and 0 <= event.occurred_at.nanos < 1_000_000_000):
        raise InvalidError("occurred_at", "is not between the years 1970 and 9999")
    return event.occurred_at


def _spans_recorded(event: Event) -> SpansRecorded:
    kind = event.WhichOneof("payload")
    if kind != "spans_recorded":
        raise InvalidError(kind or "payload", "this server takes spans_recorded by Record, and no other kind yet")
    return event.spans_recorded


def _opened(recorded: SpansRecorded, max_bytes: int) -> bytes:
    """The OTLP request; what a frame says of itself is judged before anything is made room for."""
    block = recorded.otlp_request
    try:
        if recorded.compression == COMPRESSION_ZSTD:
            frame = zstandard.get_frame_parameters(block)
            if frame.window_size > max(max_bytes, 8 * 1024 * 1024):
                raise InvalidError(OTLP_REQUEST, f"needs a window of {frame.window_size} bytes")
        return decompress(recorded.compression, block, max_bytes=max_bytes)
    except zstandard.ZstdError as error:
        raise InvalidError(OTLP_REQUEST, f"is not zstd: {error}") from None
    except UnreadableBlockError as error:
        raise InvalidError(OTLP_REQUEST, str(error).removeprefix("otlp_request ")) from None
