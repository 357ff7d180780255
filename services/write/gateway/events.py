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
from services.write.gateway.experiments import Runs, runs_named, told_record
from services.write.gateway.otlp_request import MAX_MESSAGES, WireError, reason_of, split
from services.write.gateway.records import Envelope, new_event_id
from services.write.gateway.scores import (
    Configs,
    ScoreConfigs,
    config_record,
    configs_named,
    retraction_record,
    score_record,
)
from services.write.gateway.spans import Checked, check_recorded
from services.write.gateway.write_rpc import limited, producer_of
from shared.event_log.append import Record
from shared.runtime.fairness import Turn
from shared.runtime.refusal import Context, InvalidError
from shared.runtime.settings import GatewaySettings
from shared.runtime.wire import TooManyMessagesError, checking_messages


@dataclass(frozen=True, slots=True)
class Named:
    """Of what a request's events name: what there is."""

    configs: Configs = field(default_factory=dict)
    runs: Collection[str] = ()


class Known:
    """Looks up what events name. One for a process."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.configs = ScoreConfigs(pool)
        self.runs = Runs(pool)

    async def find(self, project_id: str, events: Sequence[Any]) -> Named:
        """What there is of that which these events name.

        Raises UnavailableError when that can't be read now.
        """
        return Named(
            await self.configs.find(project_id, configs_named(events)),
            await self.runs.find(project_id, runs_named(events)),
        )


_OF_ONE_RECORD: Mapping[str, Callable[[Event, Envelope, Named], Record]] = {
    "score_recorded": lambda event, envelope, named: score_record(event, envelope, named.configs),
    "score_retracted": lambda event, envelope, _: retraction_record(event, envelope),
    "score_config_defined": lambda event, envelope, _: config_record(event, envelope),
    "experiment_item_finished": lambda event, envelope, named: told_record(event, envelope, named.runs),
    "experiment_finished": lambda event, envelope, named: told_record(event, envelope, named.runs),
}
"""The kinds of payload, beside spans, that Record takes: each is kept as one record, or refused."""
_TAKEN_ELSEWHERE = {
    "dataset_created": "DatasetService.CreateDataset",
    "dataset_item_recorded": "DatasetService.RecordItems",
    "dataset_item_archived": "DatasetService.ArchiveItems",
    "dataset_archived": "DatasetService.ArchiveDataset",
    "experiment_requested": "ExperimentService.StartExperiment",
    "experiment_paused": "ExperimentService.PauseExperiment",
    "experiment_resumed": "ExperimentService.ResumeExperiment",
    "experiment_cancelled": "ExperimentService.CancelExperiment",
}
_YEAR_10000 = 253_402_300_800  # seconds since 1970; what a Timestamp must stay below


@dataclass(frozen=True, slots=True)
class CheckedEvent:
    """An event's id, given or made, and its records; or the field that is wrong, and how."""

    event_id: str
    kind: str = ""
    records: Sequence[Record] = ()
    spans: Checked | None = None
    """Of an event that tells spans, some of which may be refused."""
    field: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class UnreadableEvent:
    """Bytes in the place of an event that are none."""

    index: int
    reason: str


async def read_events(request: bytes, max_events: int, turn: Turn) -> Sequence[Event | UnreadableEvent]:
    """The events of a RecordRequest.

    Raises InvalidError when it is none, or has too many.
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
    named: Named,
    *,
    turn: Turn,
    room: Room,
) -> CheckedEvent:
    """What can be kept of an event, under the project of the key, whatever the event says.

    `named` is what there is of that which events of the request name.
    Raises TooMuchError when the events are too much together.
    """
    if isinstance(event, UnreadableEvent):
        return CheckedEvent("", field=f"events[{event.index}]", reason=event.reason)
    kind = event.WhichOneof("payload") or "payload"
    try:
        envelope = _envelope(event, project_id, context)
        if kind == "spans_recorded":
            spans = await check_recorded(event.spans_recorded, envelope, settings, turn=turn, room=room)
            return CheckedEvent(envelope.event_id, kind, spans.records, spans)
        room.charge_payload(getattr(event, kind), kind) if kind != "payload" else room.charge_spans(1)
        return CheckedEvent(envelope.event_id, kind, [_record_of(kind)(event, envelope, named)])
    except InvalidError as invalid:
        return CheckedEvent(event.event_id, kind, field=invalid.field, reason=invalid.why)


def _record_of(kind: str) -> Callable[[Event, Envelope, Named], Record]:
    if rpc := _TAKEN_ELSEWHERE.get(kind):
        raise InvalidError(kind, f"is taken by {rpc}, not by Record")
    if kind not in _OF_ONE_RECORD:
        raise InvalidError(kind, "is no kind of event that this server takes by Record")
    return _OF_ONE_RECORD[kind]


def _envelope(event: Event, project_id: str, context: Context) -> Envelope:
    event_id = _event_id(event)
    received_at = Timestamp()
    received_at.GetCurrentTime()
    producer = limited(event.producer) if event.producer.name else producer_of(context)
    return Envelope(project_id, producer, event_id, received_at, _occurred_at(event) or received_at)


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
