"""Records of the log as commands about prompts. Pure. What the gateway would have refused is not a command."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lodestream_proto.v1.prompt_event_pb2 import (
    PromptArchived,
    PromptLabelRolledBack,
    PromptLabelsMoved,
    PromptVersionCreated,
)

from shared.event_log.codec import LogRecord
from shared.projection.records import StrayRecordError, payload_of
from shared.rules.prompts import check_archival, check_creation, check_move, check_roll_back, command_id
from shared.runtime.refusal import InvalidError

Payload = PromptVersionCreated | PromptLabelsMoved | PromptLabelRolledBack | PromptArchived
_CHECKS: dict[str, Callable[[Any, str], None]] = {
    "prompt_version_created": check_creation,
    "prompt_labels_moved": check_move,
    "prompt_label_rolled_back": check_roll_back,
    "prompt_archived": check_archival,
}


@dataclass(frozen=True, slots=True)
class Command:
    """A command about a prompt. One with an id that the prompt has met changes nothing."""

    record: LogRecord
    project_id: str
    prompt_name: str
    command_id: uuid.UUID
    kind: str
    """The payload's name in Event."""
    payload: Payload


def command_of(record: LogRecord) -> Command:
    """Read the command in a record.

    Raises StrayRecordError, also for a command that the gateway would have refused.
    """
    event, kind, payload = payload_of(record, _CHECKS)
    try:
        _CHECKS[kind](payload, kind)
        identity = uuid.UUID(command_id(event.event_id))
    except InvalidError as error:
        raise StrayRecordError(str(error)) from None
    return Command(record, event.project_id, payload.prompt_name, identity, kind, payload)
