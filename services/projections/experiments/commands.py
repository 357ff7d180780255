"""Records of the log as commands about datasets and runs. Pure. What the gateway would not have let in is none."""

import uuid
from collections.abc import Callable
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

from services.projections.experiments import checks
from shared.event_log.codec import Recorded
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
_CHECKS: dict[str, Callable[[Any, str], None]] = {
    "dataset_created": checks.check_dataset,
    "dataset_item_recorded": checks.check_item,
    "dataset_item_archived": checks.check_item_archival,
    "dataset_archived": checks.check_dataset_archival,
    "experiment_requested": checks.check_request,
    "experiment_item_finished": checks.check_result,
    "experiment_finished": checks.check_end,
    "experiment_cancelled": checks.check_run,
    "experiment_paused": checks.check_run,
    "experiment_resumed": checks.check_run,
}


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
    if kind not in _CHECKS:
        raise StrayRecordError(f"the payload is {kind or 'of an unknown kind'}, which does not belong in this topic")
    payload: Any = getattr(event, kind)
    try:
        event_id = _event_id(event)
        _CHECKS[kind](payload, kind)
    except InvalidError as error:
        raise StrayRecordError(str(error)) from None
    subject_id = payload.dataset_id if kind.startswith("dataset") else payload.run_id
    return Command(record, (event.project_id, subject_id), event_id, kind, payload)


def _event_id(event: Event) -> uuid.UUID:
    try:
        its = uuid.UUID(event.event_id)
    except ValueError:
        its = None
    if its is None or str(its) != event.event_id:
        raise InvalidError("event_id", "is no UUID in its canonical form")
    return its
