"""Every write takes one path: admitted before it is read, appended in time, answered when it can be read."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import grpc
import pytest
from google.protobuf.message import Message
from lodestream_proto.v1 import datasets_pb2 as pb

from services.write.gateway.admission import Admission, OverQuotaError
from services.write.gateway.write_rpc import WriteCall, WriteRpcs
from shared.event_log.append import LogUnavailableError, Record
from shared.event_log.position import Position
from shared.runtime.refusal import InvalidError, RefusedError, UnavailableError
from shared.runtime.settings import GatewaySettings
from tests.support.admission import QuietLog, admission

RECORD = Record("lodestream.traces", b"acme/", b"x")


class AbortedError(Exception):
    """A call that ended with a status."""


class Context:
    """A call with a deadline, and the status that it ends with."""

    def __init__(self, remaining: float | None = None) -> None:
        self.remaining, self.status, self.reason = remaining, grpc.StatusCode.OK, ""

    def time_remaining(self) -> float | None:
        return self.remaining

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", "Bearer x"), ("user-agent", "grpc-python/1"))

    async def abort(self, code: grpc.StatusCode, reason: str, *_: Any) -> None:
        self.status, self.reason = code, reason
        raise AbortedError


class Log(QuietLog):
    """A log that takes everything, or nothing."""

    def __init__(self, *, away: bool = False) -> None:
        self.away, self.within = away, list[float]()

    async def append(self, records: Sequence[Record], *, within: float) -> list[Position]:
        self.within.append(within)
        if self.away:
            raise LogUnavailableError("away")
        return [Position("t", 1, n) for n, _ in enumerate(records)]


class Reader:
    """A method of the query service."""

    def __init__(self, code: grpc.StatusCode | None = None) -> None:
        self.code, self.requests, self.timeout = code, list[Any](), 0.0

    async def __call__(self, request: Any, *, metadata: Any, timeout: float, wait_for_ready: bool) -> Message:
        assert ("authorization", "Bearer x") in metadata
        assert wait_for_ready
        self.timeout = timeout
        self.requests.append(request)
        if self.code:
            raise grpc.aio.AioRpcError(self.code, grpc.aio.Metadata(), grpc.aio.Metadata(), "no such thing")
        return pb.GetDatasetResponse()


def rpcs(log: Log | None = None, admitting: Admission | None = None) -> WriteRpcs:
    return WriteRpcs(GatewaySettings(), admitting or admission(), cast("Any", log or Log()))


def call(context: Context | None = None, *, log: Log | None = None, request: bytes = b"") -> WriteCall:
    return WriteCall("acme", request, cast("Any", context or Context()), rpcs(log))


class Admitting:
    """An admission that says what it is asked to."""

    def __init__(self, refused: RefusedError | None = None) -> None:
        self.refused = refused

    async def admit(self, _: Context) -> str:
        if self.refused:
            raise self.refused
        return "acme"


async def respond(
    handler: Any, context: Context, *messages: bytes, read: list[bytes] | None = None
) -> pb.ArchiveDatasetResponse:
    async def requests() -> AsyncIterator[bytes]:
        for message in messages:
            if read is not None:
                read.append(message)
            yield message

    return pb.ArchiveDatasetResponse.FromString(await handler.stream_unary(requests(), context))


async def archive(call: WriteCall) -> pb.ArchiveDatasetResponse:
    return pb.ArchiveDatasetResponse(version=len(call.parse(pb.ArchiveDatasetRequest).name))


async def test_a_call_is_admitted_before_it_is_read() -> None:
    context, read = Context(), list[bytes]()
    refusing = rpcs(admitting=cast("Any", Admitting(UnavailableError("full"))))
    with pytest.raises(AbortedError):
        await respond(refusing.unary("ArchiveDataset", archive), context, b"anything", read=read)
    assert (context.status, context.reason, read) == (grpc.StatusCode.UNAVAILABLE, "full", [])


@pytest.mark.parametrize("status", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE])
async def test_a_quota_is_refused_as_the_clients_of_the_rpc_understand_it(status: grpc.StatusCode) -> None:
    context = Context()
    over = rpcs(admitting=cast("Any", Admitting(OverQuotaError("over"))))
    with pytest.raises(AbortedError):
        await respond(over.unary("ArchiveDataset", archive, over_quota=status), context, b"")
    assert (context.status, context.reason) == (status, "over")


async def test_a_response_is_the_services_and_what_it_refuses_a_status() -> None:
    handler = rpcs(admitting=cast("Any", Admitting())).unary("ArchiveDataset", archive)
    assert (await respond(handler, Context(), pb.ArchiveDatasetRequest(name="abc").SerializeToString())).version == 3
    for message, reason in ((b"\xff", "request: is no ArchiveDatasetRequest"), (None, "request: the call has no")):
        context = Context()
        with pytest.raises(AbortedError):
            await respond(handler, context, *([message] if message else []))
        assert context.status == grpc.StatusCode.INVALID_ARGUMENT
        assert context.reason.startswith(reason)


async def test_an_append_waits_as_long_as_the_caller_and_the_settings_do() -> None:
    log = Log()
    assert await call(log=log).append([RECORD, RECORD]) == "t:1:1"
    await call(Context(remaining=1.2), log=log).append([RECORD])
    assert log.within == pytest.approx([GatewaySettings().ack_seconds, 1.0])
    with pytest.raises(UnavailableError, match="the call's deadline is too near"):
        await call(Context(remaining=0.1), log=log).append([RECORD])
    assert len(log.within) == 2, "nothing was appended"
    with pytest.raises(UnavailableError, match="away"):
        await call(log=Log(away=True)).append([RECORD])


async def test_what_was_written_is_read_back_or_said_to_be_in_the_log() -> None:
    read = Reader()
    await call().read_back(read, pb.GetDatasetRequest(), "t:1:1", what="dataset 'a'")
    assert (read.requests[0].wait_for.position, read.requests[0].wait_for.timeout_ms) == ("t:1:1", 10_000)
    late = Reader(grpc.StatusCode.DEADLINE_EXCEEDED)
    with pytest.raises(UnavailableError) as refused:
        await call(Context(remaining=0.1)).read_back(late, pb.GetDatasetRequest(), "t:1:1", what="dataset 'a'")
    assert refused.value.reason == (
        "the log has dataset 'a' at t:1:1, but it can't be read yet (DEADLINE_EXCEEDED): "
        "the same request again changes nothing, and is answered when it can"
    )
    assert (late.timeout, late.requests[0].wait_for.timeout_ms) == (0.001, 1), "never without a limit"


async def test_a_query_is_refused_as_the_query_service_does() -> None:
    assert await call().query(Reader(), pb.GetDatasetRequest()) == pb.GetDatasetResponse()
    with pytest.raises(UnavailableError, match=r"the query service does not answer \(UNAVAILABLE\)"):
        await call().query(Reader(grpc.StatusCode.UNAVAILABLE), pb.GetDatasetRequest())
    with pytest.raises(RefusedError, match="no such thing") as refused:
        await call().query(Reader(grpc.StatusCode.NOT_FOUND), pb.GetDatasetRequest())
    assert refused.value.code == grpc.StatusCode.NOT_FOUND


def test_an_envelope_has_the_commands_id_or_a_new_one() -> None:
    command_id = "01890000-0000-7000-8000-000000000000"
    assert call().envelope(command_id).event_id == command_id
    first, second = call().envelope(), call().envelope()
    assert first.event_id != second.event_id
    assert (first.project_id, first.producer.name) == ("acme", "grpc-python")
    with pytest.raises(InvalidError, match="is no ArchiveDatasetRequest"):
        call(request=b"\xff").parse(pb.ArchiveDatasetRequest)
