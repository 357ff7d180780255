"""The commands about prompts: what each asks for, how it becomes an event, and how its verdict is answered."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1 import prompts_pb2 as pb
from lodestream_proto.v1.event_pb2 import Event, Producer

from services.write.gateway.admission import Room
from services.write.gateway.prompts.requests import read
from services.write.gateway.records import new_event_id
from shared.event_log.append import Record
from shared.event_log.topics import PROMPTS
from shared.rules.prompts import (
    check_archival,
    check_creation,
    check_move,
    check_roll_back,
    command_id,
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A command of PromptService: an RPC whose request holds a command id and a payload of the event catalogue."""

    rpc: str
    request: type[Message]
    field: str
    """Of the payload in the request."""
    event_field: str
    """Of the payload in Event."""
    check: Callable[[Any, str], None]
    answer: Callable[[pb.GetVerdictResponse, str], Message]
    """The response to a verdict that says done, and the command's position."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command that may be appended."""

    kind: Kind
    command_id: str
    payload: Any

    @property
    def prompt_name(self) -> str:
        """Of the prompt it is about."""
        return str(self.payload.prompt_name)

    def record(self, project_id: str, producer: Producer) -> Record:
        """The record of the log; all commands about a prompt are in one partition, in the order of their offsets."""
        now = Timestamp()
        now.GetCurrentTime()
        event = Event(
            event_id=self.command_id, project_id=project_id, occurred_at=now, received_at=now, producer=producer
        )
        getattr(event, self.kind.event_field).CopyFrom(self.payload)
        return Record(PROMPTS, f"{project_id}/{self.prompt_name}".encode(), event.SerializeToString())


def read_command(kind: Kind, request: bytes, room: Room) -> Command:
    """The command in a request, for which room is held; without an id it gets one.

    Raises InvalidError naming the field that is wrong.
    """
    asked: Any = read(kind.request, request)
    payload = getattr(asked, kind.field)
    room.charge_payload(payload, kind.field)
    kind.check(payload, kind.field)
    return Command(kind, command_id(asked.command_id) if asked.command_id else new_event_id(), payload)


def _created(verdict: pb.GetVerdictResponse, position: str) -> Message:
    return pb.CreatePromptResponse(version=verdict.version, revision=verdict.revision, position=position)


def _moved(verdict: pb.GetVerdictResponse, position: str) -> Message:
    return pb.MoveLabelsResponse(revision=verdict.revision, position=position)


def _rolled_back(verdict: pb.GetVerdictResponse, position: str) -> Message:
    return pb.RollBackLabelResponse(version=verdict.version, revision=verdict.revision, position=position)


def _archived(verdict: pb.GetVerdictResponse, position: str) -> Message:
    return pb.ArchivePromptResponse(revision=verdict.revision, position=position)


KINDS = (
    Kind("CreatePrompt", pb.CreatePromptRequest, "prompt", "prompt_version_created", check_creation, _created),
    Kind("MoveLabels", pb.MoveLabelsRequest, "move", "prompt_labels_moved", check_move, _moved),
    Kind(
        "RollBackLabel", pb.RollBackLabelRequest, "roll_back", "prompt_label_rolled_back", check_roll_back, _rolled_back
    ),
    Kind("ArchivePrompt", pb.ArchivePromptRequest, "archive", "prompt_archived", check_archival, _archived),
)
