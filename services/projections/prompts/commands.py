"""Records of the log as commands about prompts. Pure. What the gateway would not have let in is no command."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.prompt_event_pb2 import (
    PromptArchived,
    PromptLabelRolledBack,
    PromptLabelsMoved,
    PromptVersionCreated,
)

from shared.event_log.codec import Recorded
from shared.read_model.prompt_rules import check_archival, check_creation, check_move, check_roll_back, command_id
from shared.runtime.refusal import InvalidError

Payload = PromptVersionCreated | PromptLabelsMoved | PromptLabelRolledBack | PromptArchived
_CHECKS: dict[str, Callable[[Any, str], None]] = {
    "prompt_version_created": check_creation,
    "prompt_labels_moved": check_move,
    "prompt_label_rolled_back": check_roll_back,
    "prompt_archived": check_archival,
}


class StrayRecordError(ValueError):
    """A record that holds no command about a prompt; the message says why."""


@dataclass(frozen=True, slots=True)
class Command:
    """What somebody asked of a prompt. The same id again asks for nothing new."""

    record: Recorded
    project_id: str
    prompt_name: str
    command_id: uuid.UUID
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
    return _checked(record, event, kind)


def _checked(record: Recorded, event: Event, kind: str) -> Command:
    payload: Any = getattr(event, kind)
    try:
        _CHECKS[kind](payload, kind)
        identity = uuid.UUID(command_id(event.event_id))
    except InvalidError as error:
        raise StrayRecordError(str(error)) from None
    return Command(record, event.project_id, payload.prompt_name, identity, kind, payload)
