"""From a command to the log's verdict: checked, appended, and answered when the projection has decided it.

The log decides: what a command meets is said by its place in it. So the gateway appends first, and then asks the query
service.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from lodestream_proto.v1 import prompts_pb2 as pb
from lodestream_proto.v1.query_pb2 import WaitFor

from services.write.gateway.admission import Admission
from services.write.gateway.producer import producer_of
from services.write.gateway.prompts.commands import Command, Kind, read_command
from services.write.gateway.prompts.store import Store
from services.write.gateway.proxy import metadata_of
from services.write.gateway.refusal import OverQuotaError, exhausted, the_request
from services.write.gateway.writing import append_all
from shared.event_log.append import Appender
from shared.event_log.position import to_token
from shared.runtime.refusal import Context, RefusedError, UnavailableError, answering
from shared.runtime.settings import GatewaySettings

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
