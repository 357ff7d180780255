"""A write as every service here takes it: admitted, read, appended, and answered when the read model has it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.query_pb2 import WaitFor

from services.write.gateway.admission import Admission, Room
from services.write.gateway.producer import producer_of
from services.write.gateway.proxy import metadata_of
from services.write.gateway.records import Envelope, new_event_id
from services.write.gateway.refusal import OverQuotaError, exhausted, the_request
from services.write.gateway.writing import append_all
from shared.event_log.append import Appender, Record
from shared.event_log.position import to_token
from shared.runtime.refusal import Context, RefusedError, UnavailableError, answering
from shared.runtime.settings import GatewaySettings

READABLE_SECONDS = 10.0
"""The longest a writer waits for the read model once the log has what it wrote."""
_ANSWER_SECONDS = 0.2  # left of the caller's deadline to answer in
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


@dataclass(frozen=True, slots=True)
class Call:
    """One call that writes, of a project that may."""

    project_id: str
    request: bytes
    context: Context
    door: "Door"

    @contextmanager
    def held(self) -> Iterator[Room]:
        """Room for the request while it is handled.

        Raises RefusedError when there is none.
        """
        try:
            with self.door.admission.hold(self.project_id, len(self.request)) as room:
                yield room
        except OverQuotaError as over:
            raise exhausted(over) from None

    def envelope(self) -> Envelope:
        """Of a new event."""
        now = Timestamp()
        now.GetCurrentTime()
        return Envelope(self.project_id, producer_of(self.context), new_event_id(), now, now)

    async def append(self, records: Sequence[Record]) -> str:
        """The position of the records once the log has them.

        Raises UnavailableError when it has not: nothing is known to be stored.
        """
        most = self.door.settings.ack_seconds
        return to_token(await append_all(self.door.appender, records, self.context, most=most))

    async def ask(self, method: Any, request: Message) -> Any:
        """What the query service answers to the caller.

        Raises RefusedError as it does, or UnavailableError.
        """
        within = self._within(READABLE_SECONDS)
        try:
            return await method(request, metadata=metadata_of(self.context), timeout=within, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            if error.code() in _PASSING:
                raise UnavailableError(f"the query service does not answer ({error.code().name})") from None
            raise RefusedError(error.code(), error.details() or "") from None

    async def when_readable(self, method: Any, request: Any, position: str, what: str) -> Any:
        """What the query service answers once the read model has what is at the position.

        Raises UnavailableError when that is not in time: the log has it all the same.
        """
        within = self._within(READABLE_SECONDS)
        request.wait_for.CopyFrom(WaitFor(position=position, timeout_ms=max(1, int(within * 1000))))
        try:
            return await method(request, metadata=metadata_of(self.context), timeout=within, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            raise UnavailableError(
                f"the log has {what} at {position}, but it can't be read yet ({error.code().name}): "
                "the same request again changes nothing, and is answered when it can"
            ) from None

    def _within(self, most: float) -> float:
        remaining = self.context.time_remaining()
        return max(0.001, most if remaining is None else min(most, remaining - _ANSWER_SECONDS))


@dataclass(frozen=True, slots=True)
class Door:
    """What all calls that write come through."""

    settings: GatewaySettings
    admission: Admission
    appender: Appender

    def method(self, rpc: str, write: Callable[[Call], Awaitable[Message]]) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """The handler of an RPC, bytes to bytes; a unary call as a stream, judged before its bytes are read."""

        async def answer(requests: AsyncIterator[bytes], context: Context) -> bytes:
            try:
                project_id = await self.admission.admit(context)
            except OverQuotaError as over:
                raise exhausted(over) from None
            call = Call(project_id, await the_request(requests), context, self)
            return (await write(call)).SerializeToString()

        async def answered(requests: AsyncIterator[bytes], context: Context) -> bytes:
            return await answering(rpc, context, lambda: answer(requests, context))

        return grpc.stream_unary_rpc_method_handler(answered)
