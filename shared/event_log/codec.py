"""Events to bytes and back. An unreadable record is a value, to be set aside whole; only lack of memory is an error."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from google.protobuf.message import DecodeError
from lodestream_proto.v1.event_pb2 import Event
from pydantic import InstanceOf, WithJsonSchema

from shared.runtime.memory import raise_if_out_of_memory

_MAX_PROJECT_ID = 255
AHEAD = timedelta(days=1)
"""How far the clock of a gateway may be ahead of the log's."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EVENT_SCHEMA = {
    "type": "string",
    "format": "binary",
    "contentMediaType": "application/x-protobuf",
    "title": "lodestream_proto.v1.Event",
    "description": "The envelope of every record: proto/lodestream_proto/v1/event.proto.",
}


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A record of the log as a consumer met it. `event` is None when the bytes are not an Event of a project."""

    topic: str
    partition: int
    offset: int
    appended_at: datetime
    raw: bytes
    event: Annotated[InstanceOf[Event], WithJsonSchema(_EVENT_SCHEMA)] | None

    @property
    def received_at(self) -> datetime:
        """When the gateway received the event: by its clock, which may be AHEAD of the log's, or else by the log's.

        Raises ValueError for a time that is none.
        """
        if self.event is None or not self.event.HasField("received_at"):
            return self.appended_at
        return min(self.event.received_at.ToDatetime(tzinfo=UTC), self.appended_at + AHEAD)


def read(topic: str, partition: int, offset: int, timestamp_ms: int, raw: bytes | None) -> LogRecord:
    """What a record says; `timestamp_ms` is the log's.

    A record is unreadable without a value, without a project, and with a project of more than 255 characters: no key
    names it, and no index has room for it, not even that of the dead letters.
    """
    appended_at = _EPOCH + timedelta(milliseconds=timestamp_ms)
    return LogRecord(topic, partition, offset, appended_at, raw or b"", _event(raw))


def _event(raw: bytes | None) -> Event | None:
    if not raw:
        return None
    try:
        event = Event.FromString(raw)
    except DecodeError as error:
        raise_if_out_of_memory(error)
        return None
    return event if 0 < len(event.project_id) <= _MAX_PROJECT_ID else None
