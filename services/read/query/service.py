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
    """The reads of traces, of sessions and of the projections' status.

    InvalidError is the status INVALID_ARGUMENT, NotFoundError is NOT_FOUND. Besides what its methods raise, every read
    is refused with UNAUTHENTICATED when the key is not valid, INVALID_ARGUMENT when `wait_for` names no position of the
    log, RESOURCE_EXHAUSTED when the project has too much under way, DEADLINE_EXCEEDED when the position is not reached
    in time or the query takes too long, and UNAVAILABLE when the database or the log does not answer.
    """

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
        """Return one trace with its spans, in start order.

        Args:
            request: A trace id (32 hex digits); `with_content` to read inputs, outputs, metadata and attributes as
                well; `page_size` (spans, at most 10,000; 0 for as many as one answer holds) and `page_token`, or
                `span_ids` (at most 1,000) for some of them.
            context: The call.

        Returns:
            The summary, the spans and the critical path; a token when there are more spans.

        Raises:
            InvalidError: An id, the page size or the token is wrong.
            NotFoundError: The project has no such trace.
        """
        return (await self._get_trace(request, context)).to_message()

    async def _get_trace(self, request: pb.GetTraceRequest, context: Context) -> TraceAnswer:
        return await self._read_context.run(self._traces.get_trace, request, context, _WITH_SCORES)

    async def GetTraceOverview(  # noqa: N802
        self, request: pb.GetTraceOverviewRequest, context: Context
    ) -> pb.GetTraceOverviewResponse:
        """Return what matters of a trace, however many spans it has.

        Args:
            request: A trace id and optionally a span id (32 and 16 hex digits), `max_spans` (200 by default, at most
                2,000), `depth` (levels; 0 for all) and `errors_only`.
            context: The call.

        Returns:
            Errors, the critical path, the slowest spans and the first levels; the others counted in groups.

        Raises:
            InvalidError: An id or a limit is wrong.
            NotFoundError: The project has no such trace, or the trace no such span.
            RefusedError: FAILED_PRECONDITION when the trace has too many spans for an overview.
        """
        return await self._read_context.run(partial(get_trace_overview, self._traces), request, context, _WITH_SCORES)

    async def ListTraces(self, request: pb.ListTracesRequest, context: Context) -> pb.ListTracesResponse:  # noqa: N802
        """Return summaries of traces.

        Args:
            request: A filter, a sort (by start time, the newest first, by default), `page_size` (50 by default, at
                most 1,000) and `page_token`.
            context: The call.

        Returns:
            A page of summaries, and a token when there are more.

        Raises:
            InvalidError: A field of the filter, the sort or the token is wrong.
        """
        return await self._read_context.run(list_traces, request, context, _WITH_SCORES)

    async def ListSessions(self, request: pb.ListSessionsRequest, context: Context) -> pb.ListSessionsResponse:  # noqa: N802
        """Return summaries of sessions, the one with the newest activity first.

        Args:
            request: A range of start times, users, environments, `page_size` (50 by default, at most 1,000) and
                `page_token`.
            context: The call.

        Returns:
            A page of summaries, and a token when there are more.

        Raises:
            InvalidError: A field of the filter or the token is wrong.
        """
        return await self._read_context.run(list_sessions, request, context)

    async def GetSession(self, request: pb.GetSessionRequest, context: Context) -> pb.GetSessionResponse:  # noqa: N802
        """Return one session with its traces, the oldest first.

        Args:
            request: A session id, `page_size` (traces: 50 by default, at most 1,000) and `page_token`.
            context: The call.

        Returns:
            The summary, a page of its traces, and a token when there are more.

        Raises:
            InvalidError: The id or the token is wrong.
            NotFoundError: The project has no such session.
        """
        return await self._read_context.run(get_session, request, context, _WITH_SCORES)

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:  # noqa: N802
        """Return how far each projection has come.

        Args:
            request: Nothing.
            context: The call.

        Returns:
            The state and freshness of each projection, and how many dead letters the project has.
        """
        return await self._read_context.run(partial(get_status, self._read_context.log_ends), request, context)

    async def TailTraces(self, request: pb.TailTracesRequest, context: Context) -> AsyncIterator[pb.TailTracesResponse]:  # noqa: N802
        """Send summaries of traces as they come in or change, until the caller hangs up.

        Args:
            request: A filter.
            context: The call.

        Yields:
            A summary for each change.

        Raises:
            InvalidError: A field of the filter is wrong.
        """
        async for change in self._read_context.stream("TailTraces", context, self._tail(request, context)):
            yield change

    async def _tail(self, request: pb.TailTracesRequest, context: Context) -> AsyncIterator[pb.TailTracesResponse]:
        project_id = await answering("TailTraces.open", context, lambda: project_of(self._read_context.keys, context))
        since = await answering("TailTraces.open", context, lambda: current_snapshot(self._read_context.database))
        changes = tail_traces(self._read_context.database, self._poller, project_id, request, since=since)
        while True:
            yield await answering("TailTraces", context, changes.__anext__)
