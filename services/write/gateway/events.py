"""Events that programs record: what they refer to, which can be taken, and as what records."""

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.ingest_pb2 import RecordRequest

from services.write.gateway.admission import Room
from services.write.gateway.experiments import RunLookup, result_record, run_ids_in
from services.write.gateway.otlp_request import MAX_MESSAGES, WireError, split
from services.write.gateway.parsing import decode_reason
from services.write.gateway.records import Envelope, limit_producer, new_event_id, producer_of
from services.write.gateway.scores import (
    ConfigLookup,
    Configs,
    config_ids_in,
    config_record,
    retraction_record,
    score_record,
)
from services.write.gateway.spans import CheckedSpans, check_spans_recorded
from shared.event_log.append import Record
from shared.runtime.fairness import Turn
from shared.runtime.refusal import Context, InvalidError
from shared.runtime.settings import GatewaySettings
from shared.runtime.wire import TooManyMessagesError, checking_messages


@dataclass(frozen=True, slots=True)
class References:
    """What there is of the score configs and runs that the events of a request refer to."""

    configs: Configs = field(default_factory=dict)
    run_ids: Collection[str] = ()


class ReferenceLookup:
    """Looks up what events refer to. One per process."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.configs = ConfigLookup(pool)
        self.runs = RunLookup(pool)

    async def resolve(self, project_id: str, events: Sequence[Any]) -> References:
        """Return the configs and runs that there are, of those which these events refer to.

        Raises UnavailableError when they can't be read now.
        """
        return References(
            await self.configs.find(project_id, config_ids_in(events)),
            await self.runs.find(project_id, run_ids_in(events)),
        )


_RECORD_OF: Mapping[str, Callable[[Event, Envelope, References], Record]] = {
    "score_recorded": lambda event, envelope, references: score_record(event, envelope, references.configs),
    "score_retracted": lambda event, envelope, _: retraction_record(event, envelope),
    "score_config_defined": lambda event, envelope, _: config_record(event, envelope),
    "experiment_item_finished": lambda event, envelope, references: result_record(event, envelope, references.run_ids),
    "experiment_finished": lambda event, envelope, references: result_record(event, envelope, references.run_ids),
}
"""How each kind of payload that Record takes, beside spans, becomes one record, or is refused."""
_RPC_OF: Mapping[str, str] = {
    "dataset_created": "DatasetService.CreateDataset",
    "dataset_item_recorded": "DatasetService.RecordItems",
    "dataset_item_archived": "DatasetService.ArchiveItems",
    "dataset_archived": "DatasetService.ArchiveDataset",
    "experiment_requested": "ExperimentService.StartExperiment",
    "experiment_paused": "ExperimentService.PauseExperiment",
    "experiment_resumed": "ExperimentService.ResumeExperiment",
    "experiment_cancelled": "ExperimentService.CancelExperiment",
}
"""The RPCs that take the other kinds."""
_YEAR_10000 = 253_402_300_800  # seconds since 1970; what a Timestamp must stay below


@dataclass(frozen=True, slots=True)
class CheckedEvent:
    """An event's id, given or made, and its records; or the field that is wrong, and what is wrong with it."""

    event_id: str
    kind: str = ""
    records: Sequence[Record] = ()
    spans: CheckedSpans | None = None
    """The spans of a `spans_recorded`, some of which may be refused."""
    field: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class UnreadableEvent:
    """Bytes at the index of an event that can't be read as one."""

    index: int
    reason: str


async def read_events(request: bytes, max_events: int, turn: Turn) -> Sequence[Event | UnreadableEvent]:
    """Return the events of a RecordRequest; one that can't be read does not cost those beside it.

    Raises InvalidError when the bytes are not a RecordRequest, or it has too many events.
    """
    try:
        for _ in checking_messages(request, RecordRequest, most=MAX_MESSAGES):
            await turn.give()
        events: Sequence[Event | UnreadableEvent] = RecordRequest.FromString(request).events
    except TooManyMessagesError as error:
        raise InvalidError("events", f"hold {error}") from None
    except DecodeError:
        try:
            parts, _ = split(request, 1, "request", most=max_events)
        except WireError as error:
            raise InvalidError("request", f"is no RecordRequest: {error}") from None
        events = [_read(part, index) for index, part in enumerate(parts)]
    if len(events) > max_events:
        raise InvalidError("events", f"{len(events)} events in one request; at most {max_events} are taken")
    return events


async def check_event(
    event: Event | UnreadableEvent,
    project_id: str,
    context: Context,
    settings: GatewaySettings,
    references: References,
    *,
    turn: Turn,
    room: Room,
) -> CheckedEvent:
    """Return what can be kept of an event, under the project of the key, whatever the event says.

    Raises TooMuchError when the events of the request are too much together.
    """
    if isinstance(event, UnreadableEvent):
        return CheckedEvent("", field=f"events[{event.index}]", reason=event.reason)
    kind = event.WhichOneof("payload") or "payload"
    try:
        envelope = _envelope(event, project_id, context)
        if kind == "spans_recorded":
            spans = await check_spans_recorded(event.spans_recorded, envelope, settings, turn=turn, room=room)
            return CheckedEvent(envelope.event_id, kind, spans.records, spans)
        room.charge_payload(getattr(event, kind), kind) if kind != "payload" else room.charge_spans(1)
        return CheckedEvent(envelope.event_id, kind, [_record_of(kind)(event, envelope, references)])
    except InvalidError as invalid:
        return CheckedEvent(event.event_id, kind, field=invalid.field, reason=invalid.why)


def _record_of(kind: str) -> Callable[[Event, Envelope, References], Record]:
    if rpc := _RPC_OF.get(kind):
        raise InvalidError(kind, f"is taken by {rpc}, not by Record")
    if kind not in _RECORD_OF:
        raise InvalidError(kind, "is no kind of event that this server takes by Record")
    return _RECORD_OF[kind]


def _envelope(event: Event, project_id: str, context: Context) -> Envelope:
    event_id = _event_id(event)
    received_at = Timestamp()
    received_at.GetCurrentTime()
    producer = limit_producer(event.producer) if event.producer.name else producer_of(context)
    return Envelope(project_id, producer, event_id, received_at, _occurred_at(event) or received_at)


def _read(part: bytes, index: int) -> Event | UnreadableEvent:
    try:
        return Event.FromString(part)
    except DecodeError as error:
        return UnreadableEvent(index, decode_reason(error))


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
