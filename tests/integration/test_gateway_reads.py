"""Reads go through the gateway as they are: key, deadline, metadata and status both ways."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from lodestream_proto.v1.query_pb2 import GetTraceRequest, GetTraceResponse, TailTracesRequest, TailTracesResponse
from lodestream_proto.v1.query_pb2_grpc import (
    QueryServiceServicer,
    QueryServiceStub,
    add_QueryServiceServicer_to_server,
)
from lodestream_proto.v1.trace_pb2 import TraceSummary

from tests.conftest import StartService
from tests.support.gateway import MODULE, new_key, opened, refusal, request_of
from tests.support.records import span

Context = grpc.aio.ServicerContext[Any, Any]


class Query(QueryServiceServicer):
    """A query service that shows what reached it."""

    async def GetTrace(self, request: GetTraceRequest, context: Context) -> GetTraceResponse:  # noqa: N802
        metadata = dict(context.invocation_metadata() or ())
        if request.trace_id == "missing":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such trace", (("why", "test"),))
        remaining = context.time_remaining()
        assert remaining is not None
        context.set_trailing_metadata((("left", f"{remaining:.0f}"),))
        return GetTraceResponse(trace=TraceSummary(trace_id=request.trace_id, name=str(metadata["authorization"])))

    async def TailTraces(  # noqa: N802
        self, request: TailTracesRequest, context: Context
    ) -> AsyncIterator[TailTracesResponse]:
        for number in range(3):
            yield TailTracesResponse(trace=TraceSummary(trace_id=str(number)))
        await context.abort(grpc.StatusCode.CANCELLED, "the end")


async def test_reads_are_forwarded_with_key_and_deadline_and_answered_as_they_were(
    database: str, service: StartService
) -> None:
    query = grpc.aio.server()
    add_QueryServiceServicer_to_server(Query(), query)  # type: ignore[abstract]
    port = query.add_insecure_port("127.0.0.1:0")
    await query.start()
    gateway = await service(MODULE, LODESTREAM_POSTGRES=database, LODESTREAM_QUERY=f"127.0.0.1:{port}")
    key = await new_key(database)
    try:
        async with opened(gateway.address, key) as door:
            stub = QueryServiceStub(door.channel)
            call = stub.GetTrace(GetTraceRequest(trace_id="t"), metadata=door.bearer, timeout=7)
            assert (await call).trace.name == f"Bearer {key.secret_key}"
            assert dict(await call.trailing_metadata())["left"] in {"6", "7"}
            error = await refusal(stub.GetTrace(GetTraceRequest(trace_id="missing"), metadata=door.bearer, timeout=7))
            assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such trace")
            assert dict(error.trailing_metadata() or ())["why"] == "test"
            tail: Any = stub.TailTraces(TailTracesRequest(), metadata=door.bearer, timeout=7)
            assert [(await tail.read()).trace.trace_id for _ in range(3)] == ["0", "1", "2"]
            assert (await refusal(tail.read())).details() == "the end"
            await query.stop(0)
            error = await refusal(stub.GetTrace(GetTraceRequest(trace_id="t"), metadata=door.bearer, timeout=7))
            assert error.code() == grpc.StatusCode.UNAVAILABLE
            assert error.details() == "the query service does not answer; writes are not affected"
            await door.export(request_of(span(1, 1)))
            unknown: Any = door.channel.unary_unary("/lodestream_proto.v1.QueryService/DropEverything")
            assert (await refusal(unknown(b"", timeout=7))).code() == grpc.StatusCode.UNIMPLEMENTED
    finally:
        await query.stop(0)
