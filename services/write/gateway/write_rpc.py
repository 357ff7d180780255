"""The path of every write: admitted, read, checked, appended, and answered when it can be read.

`WriteRpcs.unary` makes the handler of an RPC: a call is admitted by its key, its project's quota and the log's state
before its bytes are read. What the service adds is a function from a WriteCall to a response. It holds room for the
request while it checks it and makes records of it, appends these, and then waits for the read model if the response
says what came of them:

    async def _archive(self, call: WriteCall) -> pb.ArchiveDatasetResponse:
        with call.hold_room():
            request = call.parse(pb.ArchiveDatasetRequest)
            ...
            position = await call.append([record])
        return await call.read_back(self._query.GetDataset, ..., position, what="dataset 'questions'")

Refusals become statuses here: InvalidError and TooMuchError are INVALID_ARGUMENT, NotFoundError is NOT_FOUND,
UnavailableError is UNAVAILABLE with RetryInfo, a quota what the RPC's clients understand. A call whose key is not valid
is UNAUTHENTICATED before it reaches its method (docs/decisions/0028).
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.query_pb2 import WaitFor

from services.write.gateway import metrics
from services.write.gateway.admission import Admission, OverQuotaError, Room
from services.write.gateway.parsing import Request, parse_request, read_unary
from services.write.gateway.proxy import TRANSIENT_CODES, metadata_of
from services.write.gateway.records import Envelope, new_event_id, producer_of
from shared.event_log.append import Appender, LogUnavailableError, Record
from shared.event_log.position import to_token
from shared.runtime.failpoints import failpoint
from shared.runtime.refusal import Answer, Context, RefusedError, UnavailableError, answering
from shared.runtime.settings import GatewaySettings

READABLE_SECONDS = 10.0
"""The longest a writer waits for the read model once the log has the records."""
_ANSWER_SECONDS = 0.2  # left of the caller's deadline to answer in


@dataclass(frozen=True, slots=True)
class WriteRpcs:
    """What all writes of a process share."""

    settings: GatewaySettings
    admission: Admission
    appender: Appender

    def unary(
        self,
        rpc: str,
        write: Callable[["WriteCall"], Awaitable[Message]],
        *,
        over_quota: grpc.StatusCode = grpc.StatusCode.RESOURCE_EXHAUSTED,
    ) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """Return the handler of an RPC with one request and one response, from bytes to bytes.

        It is registered as a stream, so that a call is admitted before its bytes are read.

        Args:
            rpc: The name in metrics and logs.
            write: Returns the response; what it raises of RefusedError becomes the call's status.
            over_quota: The status that the RPC's clients try again after when their project is over its quota.
        """

        async def answer(requests: AsyncIterator[bytes], context: Context) -> bytes:
            try:
                project_id = await self.admission.admit(context)
                call = WriteCall(project_id, await read_unary(requests), context, self)
                return (await write(call)).SerializeToString()
            except OverQuotaError as over:
                raise RefusedError(over_quota, over.reason, retry_seconds=over.retry_seconds) from None

        async def handle(requests: AsyncIterator[bytes], context: Context) -> bytes:
            return await answering(rpc, context, lambda: answer(requests, context))

        return grpc.stream_unary_rpc_method_handler(handle)


@dataclass(frozen=True, slots=True)
class WriteCall:
    """One admitted call that writes."""

    project_id: str
    request: bytes
    context: Context
    rpcs: WriteRpcs

    def hold_room(self) -> AbstractContextManager[Room]:
        """Hold room for the request while it is checked and appended.

        Raises UnavailableError when there is none; OverQuotaError when others of the project used up its quota while
        this request was read.
        """
        return self.rpcs.admission.hold(self.project_id, len(self.request))

    def parse(self, kind: type[Request]) -> Request:
        """Return the request's message.

        Raises InvalidError when the bytes are not of this kind.
        """
        return parse_request(kind, self.request)

    def envelope(self, event_id: str | None = None) -> Envelope:
        """Return the envelope of an event that happens now; without an id it gets a new one."""
        now = Timestamp()
        now.GetCurrentTime()
        return Envelope(self.project_id, producer_of(self.context), event_id or new_event_id(), now, now)

    async def append(self, records: Sequence[Record]) -> str:
        """Return the position token of the records once the log has all of them.

        Raises UnavailableError when that is not so within `ack_seconds` or the caller's deadline: nothing is known to
        be stored.
        """
        appender = self.rpcs.appender
        return to_token(await self.acknowledged(lambda within: appender.append(records, within=within)))

    async def acknowledged(self, append: Callable[[float], Awaitable[Answer]]) -> Answer:
        """Return what `append` gives when it is allowed so many seconds; raises UnavailableError as `append` does."""
        within = self._seconds_left(self.rpcs.settings.ack_seconds)
        if within <= 0:
            raise UnavailableError("the call's deadline is too near")
        await failpoint("gateway.checked")
        started = time.perf_counter()
        try:
            acknowledgement = await append(within)
        except LogUnavailableError as error:
            raise UnavailableError(str(error)) from error
        metrics.APPEND_SECONDS.observe(time.perf_counter() - started)
        await failpoint("gateway.acked")
        return acknowledgement

    async def query(self, method: Any, request: Message) -> Any:
        """Return the query service's response, on the caller's behalf.

        Raises RefusedError with its status, or UnavailableError when it does not answer.
        """
        within = max(0.001, self._seconds_left(READABLE_SECONDS))
        try:
            return await method(request, metadata=metadata_of(self.context), timeout=within, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            if error.code() in TRANSIENT_CODES:
                raise UnavailableError(f"the query service does not answer ({error.code().name})") from None
            raise RefusedError(error.code(), error.details() or "") from None

    async def read_back(
        self,
        method: Any,
        request: Any,
        position: str,
        *,
        what: str,
        pending: str = "but it can't be read yet",
        hint: str = ": the same request again changes nothing, and is answered when it can",
        seconds: float = READABLE_SECONDS,
    ) -> Any:
        """Return the query service's response once the read model has what was appended.

        Args:
            method: A method of the query service whose request has `wait_for`.
            request: Its request, without that.
            position: The position token to wait for.
            what: What was appended, as the refusal names it.
            pending: What is not so yet when the wait is over, and
            hint: what the caller can do about it.
            seconds: The longest wait; the caller's deadline may end it sooner.

        Raises UnavailableError when the read model is late: the log has the records all the same.
        """
        within = max(0.001, self._seconds_left(seconds))
        request.wait_for.CopyFrom(WaitFor(position=position, timeout_ms=max(1, int(within * 1000))))
        try:
            return await method(request, metadata=metadata_of(self.context), timeout=within, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            raise UnavailableError(f"the log has {what} at {position}, {pending} ({error.code().name}){hint}") from None

    def _seconds_left(self, most: float) -> float:
        remaining = self.context.time_remaining()
        return most if remaining is None else min(most, remaining - _ANSWER_SECONDS)
