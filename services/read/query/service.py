"""QueryService: the functions that answer its calls, and the topics that the answers are folded from."""

from collections.abc import AsyncIterator
from functools import partial

import grpc
from lodestream_proto.v1 import query_pb2 as pb
from lodestream_proto.v1.query_pb2_grpc import QueryServiceServicer, add_QueryServiceServicer_to_server

from services.read.query.freshness import get_status
from services.read.query.get_trace import TraceAnswer, TraceReader
from services.read.query.get_trace_overview import get_trace_overview
from services.read.query.read_context import ReadContext
from services.read.query.refusal import answering
from services.read.query.sessions import get_session, list_sessions
from services.read.query.tail import ChangePoller, current_snapshot, tail_traces
from services.read.query.traces import list_traces
from shared.auth.caller import project_of
from shared.event_log.topics import SCORES, TRACES
from shared.runtime.refusal import Context

_WITH_SCORES = (TRACES, SCORES)


class QueryService(QueryServiceServicer):
    """The reads of traces, of sessions and of the projections' status."""

    def __init__(self, read_context: ReadContext, traces: TraceReader) -> None:
        self._read_context, self._traces = read_context, traces
        self._poller = ChangePoller(read_context.database)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register all methods; GetTrace with a handler of its own, for its answer is serialized already."""
        get_trace = grpc.unary_unary_rpc_method_handler(
            self._get_trace,
            request_deserializer=pb.GetTraceRequest.FromString,
            response_serializer=TraceAnswer.to_bytes,
        )
        name = pb.DESCRIPTOR.services_by_name["QueryService"].full_name
        add_QueryServiceServicer_to_server(self, server)
        server.add_registered_method_handlers(name, {"GetTrace": get_trace})

    async def GetTrace(self, request: pb.GetTraceRequest, context: Context) -> pb.GetTraceResponse:  # noqa: N802 - gRPC's name
        return (await self._get_trace(request, context)).to_message()

    async def _get_trace(self, request: pb.GetTraceRequest, context: Context) -> TraceAnswer:
        return await self._read_context.run(self._traces.get_trace, request, context, _WITH_SCORES)

    async def GetTraceOverview(  # noqa: N802
        self, request: pb.GetTraceOverviewRequest, context: Context
    ) -> pb.GetTraceOverviewResponse:
        return await self._read_context.run(partial(get_trace_overview, self._traces), request, context, _WITH_SCORES)

    async def ListTraces(self, request: pb.ListTracesRequest, context: Context) -> pb.ListTracesResponse:  # noqa: N802
        return await self._read_context.run(list_traces, request, context, _WITH_SCORES)

    async def ListSessions(self, request: pb.ListSessionsRequest, context: Context) -> pb.ListSessionsResponse:  # noqa: N802
        return await self._read_context.run(list_sessions, request, context)

    async def GetSession(self, request: pb.GetSessionRequest, context: Context) -> pb.GetSessionResponse:  # noqa: N802
        return await self._read_context.run(get_session, request, context, _WITH_SCORES)

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:  # noqa: N802
        return await self._read_context.run(partial(get_status, self._read_context.log_ends), request, context)

    async def TailTraces(self, request: pb.TailTracesRequest, context: Context) -> AsyncIterator[pb.TailTracesResponse]:  # noqa: N802
        async for change in self._read_context.stream("TailTraces", context, self._tail(request, context)):
            yield change

    async def _tail(self, request: pb.TailTracesRequest, context: Context) -> AsyncIterator[pb.TailTracesResponse]:
        project_id = await answering("TailTraces.open", context, lambda: project_of(self._read_context.keys, context))
        since = await answering("TailTraces.open", context, lambda: current_snapshot(self._read_context.database))
        changes = tail_traces(self._read_context.database, self._poller, project_id, request, since=since)
        while True:
            yield await answering("TailTraces", context, changes.__anext__)
