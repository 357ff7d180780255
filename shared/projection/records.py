"""Records of a topic, read into what a projection folds; those that do not belong there become dead letters."""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from lodestream_proto.v1.event_pb2 import Event

from shared.event_log.codec import LogRecord
from shared.projection.dead_letters import DeadLetter, whole
from shared.runtime.memory import raise_if_out_of_memory

Value = TypeVar("Value")


@dataclass(slots=True)
class ReadRecords(Generic[Value]):
    """What records were read into, in order, and the dead letters of those that could not be."""

    values: list[Value] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)


class StrayRecordError(ValueError):
    """A record that does not belong in the topic; the message says why."""


def read_records(records: Sequence[LogRecord], read: Callable[[LogRecord], Value]) -> ReadRecords[Value]:
    """Read each record; what `read` raises for is set aside as a whole, with the error as the reason.

    Raises MemoryError only: another time, there may be room.
    """
    result = ReadRecords[Value]()
    for record in records:
        try:
            result.values.append(read(record))
        except StrayRecordError as error:
            result.dead_letters.append(whole(record, str(error)))
        except Exception as error:
            raise_if_out_of_memory(error)
            result.dead_letters.append(whole(record, f"{type(error).__name__}: {error}"))
    return result


def payload_of(record: LogRecord, kinds: Container[str]) -> tuple[Event, str, Any]:
    """The event in a record, the kind of its payload (the field's name in Event), and the payload.

    Raises StrayRecordError for a record that is no event of a project, or holds a payload of none of these kinds.
    """
    event = record.event
    if event is None:
        raise StrayRecordError("the record is not an Event of a project")
    if "\0" in event.project_id:
        raise StrayRecordError("project_id: has a NUL character")
    kind = event.WhichOneof("payload")
    if kind is None or kind not in kinds:
        raise StrayRecordError(f"the payload is {kind or 'of an unknown kind'}, which does not belong in this topic")
    return event, kind, getattr(event, kind)
