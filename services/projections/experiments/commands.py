"""Records of the log as commands about datasets and runs. Pure. What the gateway would not have let in is none."""

import uuid
from dataclasses import dataclass
from typing import Any

from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import (
    DatasetArchived,
    DatasetCreated,
    DatasetItemArchived,
    DatasetItemRecorded,
    ExperimentCancelled,
    ExperimentFinished,
    ExperimentItemFinished,
    ExperimentPaused,
    ExperimentRequested,
    ExperimentResumed,
)

from shared.event_log.codec import Recorded
from shared.read_model.experiment_rules import CHECKS, subject_id_of
from shared.runtime.refusal import InvalidError

AboutDataset = DatasetCreated | DatasetItemRecorded | DatasetItemArchived | DatasetArchived
AboutRun = (
    ExperimentRequested
    | ExperimentItemFinished
    | ExperimentFinished
    | ExperimentCancelled
    | ExperimentPaused
    | ExperimentResumed
)
Payload = AboutDataset | AboutRun
Subject = tuple[str, str]
"""A project's id, and the id of its dataset or run."""


class StrayRecordError(ValueError):
    """A record that holds no command about a dataset or a run; the message says why."""


@dataclass(frozen=True, slots=True)
class Command:
    """What is told of a dataset or a run. The same id again, of the same subject, tells nothing new."""

    record: Recorded
    subject: Subject
    event_id: uuid.UUID
    kind: str
    """The payload's name in Event."""
    payload: Payload


def command_of(record: Recorded) -> Command:
    """The command in a record.

    Raises StrayRecordError.
    """
    event = record.event
    if event is None:
        raise StrayRecordError("the record is not an Event of a project")
    if "\0" in event.project_id:
        raise StrayRecordError("project_id: has a NUL character")
    kind = event.WhichOneof("payload")
    if kind is None or kind not in CHECKS:
        raise StrayRecordError(f"the payload is {kind or 'of an unknown kind'}, which does not belong in this topic")
    payload: Any = getattr(event, kind)
    try:
        event_id = _event_id(event)
        CHECKS[kind](payload, kind)
    except InvalidError as error:
        raise StrayRecordError(str(error)) from None
    return Command(record, (event.project_id, subject_id_of(payload)), event_id, kind, payload)


def _event_id(event: Event) -> uuid.UUID:
    try:
        its = uuid.UUID(event.event_id)
    except ValueError:
        its = None
    if its is None or str(its) != event.event_id:
        raise InvalidError("event_id", "is no UUID in its canonical form")
    return its
