"""Records of the log as commands about datasets and runs. Pure. What the gateway would have refused is not one."""

import uuid
from dataclasses import dataclass

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

from shared.event_log.codec import LogRecord
from shared.projection.records import StrayRecordError, payload_of
from shared.rules.experiments import CHECKS, subject_id_of
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


@dataclass(frozen=True, slots=True)
class Command:
    """A command about a dataset or a run. One with an id that its subject has met changes nothing."""

    record: LogRecord
    subject: Subject
    event_id: uuid.UUID
    kind: str
    """The payload's name in Event."""
    payload: Payload


def command_of(record: LogRecord) -> Command:
    """Read the command in a record.

    Raises StrayRecordError, also for a command that the gateway would have refused.
    """
    event, kind, payload = payload_of(record, CHECKS)
    try:
        event_id = _event_id(event)
        CHECKS[kind](payload, kind)
    except InvalidError as error:
        raise StrayRecordError(str(error)) from None
    return Command(record, (event.project_id, subject_id_of(payload)), event_id, kind, payload)


def _event_id(event: Event) -> uuid.UUID:
    try:
        event_id = uuid.UUID(event.event_id)
    except ValueError:
        event_id = None
    if event_id is None or str(event_id) != event.event_id:
        raise InvalidError("event_id", "is no UUID in its canonical form")
    return event_id
