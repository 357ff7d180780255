"""Commands about prompts: CreatePrompt, MoveLabels, RollBackLabel and ArchivePrompt.

The log decides: what a command meets follows from its place in it (docs/decisions/0015). So the gateway appends first,
and then asks the query service for the verdict.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import Message
from lodestream_proto.v1 import prompts_pb2 as pb
from lodestream_proto.v1.prompts_pb2_grpc import PromptServiceStub

from services.write.gateway.admission import Room
from services.write.gateway.parsing import parse_request
from services.write.gateway.prompts.lookup import PromptLookup
from services.write.gateway.records import new_event_id
from services.write.gateway.write_rpc import WriteCall, WriteRpcs
from shared.event_log.topics import PROMPTS
from shared.rules.prompts import check_archival, check_creation, check_move, check_roll_back, command_id
from shared.runtime.refusal import RefusedError

VERDICT_SECONDS = 3.0
"""The longest a writer waits for the verdict once the log has the command."""
_CODES = {
    pb.PROMPT_REFUSAL_CONFLICT: grpc.StatusCode.ABORTED,
    pb.PROMPT_REFUSAL_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
}


@dataclass(frozen=True, slots=True)
class CommandKind:
    """A kind of command: an RPC whose request holds a command id and a payload of the event catalogue."""

    rpc: str
    request: type[Message]
    field: str
    """The payload's field in the request."""
    event_field: str
    """The payload's field in Event."""
    check: Callable[[Any, str], None]
    """Raises InvalidError when the payload, in a field of this name, can't be taken."""
    response: Callable[[pb.GetVerdictResponse, str], Message]
    """Makes the response of a verdict that says done, and the command's position."""


@dataclass(frozen=True, slots=True)
class PromptCommand:
    """A command that may be appended."""

    kind: CommandKind
    command_id: str
    payload: Any

    @property
    def prompt_name(self) -> str:
        """The name of the prompt that it changes."""
        return str(self.payload.prompt_name)


def read_command(kind: CommandKind, request: bytes, room: Room) -> PromptCommand:
    """Return the command in a request, for which room is held; without an id it gets a new one.

    Raises InvalidError naming the field that is wrong.
    """
    parsed: Any = parse_request(kind.request, request)
    payload = getattr(parsed, kind.field)
    room.charge_payload(payload, kind.field)
    kind.check(payload, kind.field)
    return PromptCommand(kind, command_id(parsed.command_id) if parsed.command_id else new_event_id(), payload)


def _created(verdict: pb.GetVerdictResponse, position: str) -> Message:
    return pb.CreatePromptResponse(version=verdict.version, revision=verdict.revision, position=position)


def _moved(verdict: pb.GetVerdictResponse, position: str) -> Message:
    return pb.MoveLabelsResponse(revision=verdict.revision, position=position)


def _rolled_back(verdict: pb.GetVerdictResponse, position: str) -> Message:
    return pb.RollBackLabelResponse(version=verdict.version, revision=verdict.revision, position=position)


def _archived(verdict: pb.GetVerdictResponse, position: str) -> Message:
    return pb.ArchivePromptResponse(revision=verdict.revision, position=position)


KINDS = (
    CommandKind("CreatePrompt", pb.CreatePromptRequest, "prompt", "prompt_version_created", check_creation, _created),
    CommandKind("MoveLabels", pb.MoveLabelsRequest, "move", "prompt_labels_moved", check_move, _moved),
    CommandKind(
        "RollBackLabel", pb.RollBackLabelRequest, "roll_back", "prompt_label_rolled_back", check_roll_back, _rolled_back
    ),
    CommandKind("ArchivePrompt", pb.ArchivePromptRequest, "archive", "prompt_archived", check_archival, _archived),
)


class PromptCommands:
    """Appends commands, and answers with the verdict; the same command id again gives the same verdict."""

    def __init__(self, rpcs: WriteRpcs, query: grpc.aio.Channel, lookup: PromptLookup) -> None:
        self._rpcs, self._lookup = rpcs, lookup
        self._query: Any = PromptServiceStub(query)

    def methods(self) -> "dict[str, grpc.RpcMethodHandler[bytes, bytes]]":
        """Return the handlers of the RPCs by name, from bytes to bytes."""
        return {kind.rpc: self._rpcs.unary(kind.rpc, partial(self._decide, kind)) for kind in KINDS}

    async def _decide(self, kind: CommandKind, call: WriteCall) -> Message:
        """Append a command and return what the log has decided of it.

        Args:
            kind: The kind of command.
            call: A request of this kind, with a command id (a UUID) or without.

        Returns:
            The kind's response, with the prompt's new revision and the position of the command.

        Raises:
            InvalidError: A field is wrong; the refusal names it.
            RefusedError: ABORTED when the prompt is not at the revision that the command demands, NOT_FOUND when
                there is no such prompt, version or label, FAILED_PRECONDITION for any other verdict that refuses it.
            UnavailableError: Nothing is known to be stored, or the verdict is not known yet.
        """
        with call.hold_room() as room:
            command = read_command(kind, call.request, room)
            envelope = call.envelope(command.command_id)
            record = envelope.record(PROMPTS, command.prompt_name.encode(), **{kind.event_field: command.payload})
            position = await call.append([record])
        verdict: pb.GetVerdictResponse = await call.read_back(
            self._query.GetVerdict,
            pb.GetVerdictRequest(command_id=command.command_id, prompt_name=command.prompt_name),
            position,
            what=f"command {command.command_id}",
            pending="its verdict is not known yet",
            hint=": the same command id again gives it",
            seconds=VERDICT_SECONDS,
        )
        if verdict.refusal:
            raise RefusedError(_CODES.get(verdict.refusal, grpc.StatusCode.FAILED_PRECONDITION), verdict.reason)
        self._lookup.set_reached((call.project_id, command.prompt_name), position, verdict.revision)
        return kind.response(verdict, position)
