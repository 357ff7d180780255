"""The way of every write: admitted, read, checked, appended, and answered when it can be read."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.event_pb2 import Producer
from lodestream_proto.v1.query_pb2 import WaitFor
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.write.gateway.admission import Admission, OverQuotaError, Room
from services.write.gateway.otlp_request import reason_of
from services.write.gateway.proxy import metadata_of
from services.write.gateway.records import Envelope, new_event_id
from services.write.gateway.spans import append_all
from shared.event_log.append import Appender, Record
from shared.event_log.position import to_token
from shared.runtime.refusal import Context, InvalidError, RefusedError, UnavailableError, answering
from shared.runtime.settings import GatewaySettings
from shared.runtime.wire import TooManyMessagesError, check_messages

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


_MAX_TEXT = 128
_SDK = {"telemetry.sdk.name", "telemetry.sdk.language", "telemetry.sdk.version"}


def producer_of(context: Context, request: ExportTraceServiceRequest | None = None) -> Producer:
    """For example "langfuse-python" 5.0.4, "opentelemetry-python" 1.45.2; empty when nothing is told."""
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    if name := metadata.get("x-langfuse-sdk-name"):
        return _producer(f"langfuse-{name.removeprefix('langfuse-')}", metadata.get("x-langfuse-sdk-version", ""))
    if name := metadata.get("lodestream-sdk-name"):
        return _producer(name, metadata.get("lodestream-sdk-version", ""))
    if request and request.resource_spans:
        attributes = request.resource_spans[0].resource.attributes
        sdk = {attribute.key: attribute.value.string_value for attribute in attributes if attribute.key in _SDK}
        if name := sdk.get("telemetry.sdk.name"):
            language = sdk.get("telemetry.sdk.language")
            return _producer(f"{name}-{language}" if language else name, sdk.get("telemetry.sdk.version", ""))
    name, _, version = metadata.get("user-agent", "").partition(" ")[0].partition("/")
    return _producer(name, version)


def limited(producer: Producer) -> Producer:
    """With texts of a bearable length."""
    return _producer(producer.name, producer.version)


def _producer(name: str, version: str) -> Producer:
    return Producer(name=name[:_MAX_TEXT], version=version[:_MAX_TEXT])


_MAX_MESSAGES = 20_000
"""Items and their parts: an empty one has two bytes on the wire and a hundred in memory."""
Request = TypeVar("Request", bound=Message)


def read(kind: type[Request], request: bytes) -> Request:
    """The message in a request's bytes.

    Raises InvalidError.
    """
    try:
        check_messages(request, kind, most=_MAX_MESSAGES)
        return kind.FromString(request)
    except TooManyMessagesError as error:
        raise InvalidError("request", f"holds {error}") from None
    except DecodeError as error:
        raise InvalidError("request", f"is no {kind.DESCRIPTOR.name}: {reason_of(error)}") from None


def check_count(asked: Sized, path: str, *, most: int) -> None:
    """Raises InvalidError when more is asked for in one call than may be."""
    if len(asked) > most:
        raise InvalidError(path, f"are {len(asked)}; at most {most} are taken")


def exhausted(over: OverQuotaError) -> RefusedError:
    """The same as clients of our own understand it."""
    return RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, over.reason, retry_seconds=over.retry_seconds)


async def the_request(requests: AsyncIterator[bytes]) -> bytes:
    """The message of a unary call. Registered as streams, such calls are judged before their bytes are read."""
    async for request in requests:
        return request
    raise InvalidError("request", "the call has no message, or one that is too large")
