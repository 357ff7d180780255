"""Events to bytes and back. Reading never raises: an unreadable record is a value, to be set aside whole."""

from dataclasses import dataclass
from datetime import datetime

from google.protobuf.message import DecodeError
from lodestream_proto.v1.event_pb2 import Event


@dataclass(frozen=True, slots=True)
class Recorded:
    """A record of the log as a consumer met it. `event` is None when the bytes are not an Event."""

    topic: str
    partition: int
    offset: int
    appended_at: datetime
    raw: bytes
    event: Event | None


def read(topic: str, partition: int, offset: int, appended_at: datetime, raw: bytes | None) -> Recorded:
    """What a record says. A record without a value, without a project or of no known payload is unreadable."""
    return Recorded(topic, partition, offset, appended_at, raw or b"", _event(raw))


def _event(raw: bytes | None) -> Event | None:
    if not raw:
        return None
    try:
        event = Event.FromString(raw)
    except DecodeError:
        return None
    return event if event.project_id else None
