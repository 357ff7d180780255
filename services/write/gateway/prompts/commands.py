"""Commands about prompts: checked, appended, and answered with the log's verdict."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1 import prompts_pb2 as pb
from lodestream_proto.v1.event_pb2 import Event, Producer
from lodestream_proto.v1.query_pb2 import WaitFor

from services.write.gateway.admission import Admission, OverQuotaError, Room
from services.write.gateway.prompts.lookup import Store
from services.write.gateway.proxy import metadata_of
from services.write.gateway.records import new_event_id
from services.write.gateway.spans import append_all
from services.write.gateway.write_rpc import exhausted, producer_of, read, the_request
from shared.event_log.append import Appender, Record
from shared.event_log.position import to_token
from shared.event_log.topics import PROMPTS
from shared.rules.prompts import (
    check_archival,
    check_creation,
    check_move,
    check_roll_back,
    command_id,
)
from shared.runtime.refusal import Context, RefusedError, UnavailableError, answering
from shared.runtime.settings import GatewaySettings


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


VERDICT_SECONDS = 3.0
"""The longest a writer waits for the verdict once the log has the command."""
_ANSWER_SECONDS = 0.2  # left of the caller's deadline to answer in
_CODES = {
    pb.PROMPT_REFUSAL_CONFLICT: grpc.StatusCode.ABORTED,
    pb.PROMPT_REFUSAL_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
}
Method = Callable[[AsyncIterator[bytes], Context], Awaitable[bytes]]


class Writes:
    """Answers with the verdict, or with UNAVAILABLE; the same command id again gives the same verdict."""

    def __init__(
        self,
        settings: GatewaySettings,
        admission: Admission,
        appender: Appender,
        query: grpc.aio.Channel,
        store: Store,
    ) -> None:
        self._settings, self._admission, self._appender, self._store = settings, admission, appender, store
        self._get_verdict: Any = query.unary_unary(
            "/lodestream_proto.v1.PromptService/GetVerdict",
            request_serializer=pb.GetVerdictRequest.SerializeToString,
            response_deserializer=pb.GetVerdictResponse.FromString,
        )

    def method(self, kind: Kind) -> Method:
        """The RPC of a kind of command, bytes to bytes."""

        async def call(requests: AsyncIterator[bytes], context: Context) -> bytes:
            return await answering(kind.rpc, context, lambda: self._write(kind, requests, context))

        return call

    async def _write(self, kind: Kind, requests: AsyncIterator[bytes], context: Context) -> bytes:
        try:
            project_id = await self._admission.admit(context)
            request = await the_request(requests)
            with self._admission.hold(project_id, len(request)) as room:
                command = read_command(kind, request, room)
                record = command.record(project_id, producer_of(context))
                positions = await append_all(self._appender, [record], context, most=self._settings.ack_seconds)
        except OverQuotaError as refused:
            raise exhausted(refused) from None
        position = to_token(positions)
        verdict = await self._verdict(command, position, context)
        if verdict.refusal:
            raise RefusedError(_CODES.get(verdict.refusal, grpc.StatusCode.FAILED_PRECONDITION), verdict.reason)
        self._store.reach((project_id, command.prompt_name), position, verdict.revision)
        return kind.answer(verdict, position).SerializeToString()

    async def _verdict(self, command: Command, position: str, context: Context) -> pb.GetVerdictResponse:
        remaining = context.time_remaining()
        within = VERDICT_SECONDS if remaining is None else min(VERDICT_SECONDS, remaining - _ANSWER_SECONDS)
        wait = WaitFor(position=position, timeout_ms=max(1, int(within * 1000)))
        try:
            verdict: pb.GetVerdictResponse = await self._get_verdict(
                pb.GetVerdictRequest(command_id=command.command_id, prompt_name=command.prompt_name, wait_for=wait),
                metadata=metadata_of(context),
                timeout=max(0.001, within),
                wait_for_ready=True,
            )
        except grpc.aio.AioRpcError as error:
            raise UnavailableError(
                f"the log has command {command.command_id} at {position}, its verdict is not known yet "
                f"({error.code().name}): the same command id again gives it"
            ) from None
        return verdict
