"""QueryService: for every call the project of its key, the wait it asks for, the answer, and how fresh that is."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
from lodestream_proto.v1 import query_pb2 as pb
from lodestream_proto.v1.query_pb2_grpc import QueryServiceServicer

from services.read.query.freshness import LogEnds, freshness, wait_for
from services.read.query.get_trace import get_trace
from services.read.query.refusal import answering
from services.read.query.sessions import get_session, list_sessions
from services.read.query.status import get_status
from services.read.query.tail import tail_traces
from services.read.query.traces import list_traces
from shared.read_model.authentication import Authenticator
from shared.read_model.caller import project_of
from shared.runtime.refusal import Context

Response = TypeVar(
    "Response", pb.GetTraceResponse, pb.ListTracesResponse, pb.ListSessionsResponse, pb.GetSessionResponse
)


class QueryService(QueryServiceServicer):
    """The reads of one database."""

    def __init__(self, pool: asyncpg.Pool, keys: Authenticator, log_ends: LogEnds) -> None:
        self._pool = pool
        self._keys = keys
        self._log_ends = log_ends

    async def GetTrace(self, request: pb.GetTraceRequest, context: Context) -> pb.GetTraceResponse:  # noqa: N802 - gRPC's name
        return await self._read(get_trace, request, context)

    async def ListTraces(self, request: pb.ListTracesRequest, context: Context) -> pb.ListTracesResponse:  # noqa: N802
        return await self._read(list_traces, request, context)

    async def ListSessions(self, request: pb.ListSessionsRequest, context: Context) -> pb.ListSessionsResponse:  # noqa: N802
        return await self._read(list_sessions, request, context)

    async def GetSession(self, request: pb.GetSessionRequest, context: Context) -> pb.GetSessionResponse:  # noqa: N802
        return await self._read(get_session, request, context)

    async def GetStatus(self, _request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:  # noqa: N802
        async def answer() -> pb.GetStatusResponse:
            project_id = await project_of(self._keys, context)
            fresh = await freshness(self._pool, self._log_ends)
            response = await get_status(self._pool, project_id, self._log_ends)
            response.freshness.CopyFrom(fresh)
            return response

        return await answering("GetStatus", context, answer)

    async def TailTraces(self, request: pb.TailTracesRequest, context: Context) -> AsyncIterator[pb.TailTracesResponse]:  # noqa: N802
        project_id = await answering("TailTraces", context, lambda: project_of(self._keys, context))
        changes = tail_traces(self._pool, project_id, request)
        while True:
            yield await answering("TailTraces", context, changes.__anext__)

    async def _read(
        self, read: Callable[[asyncpg.Pool, str, Any], Awaitable[Response]], request: Any, context: Context
    ) -> Response:
        async def answer() -> Response:
            project_id = await project_of(self._keys, context)
            await wait_for(self._pool, request.wait_for, context.time_remaining())
            fresh = await freshness(self._pool, self._log_ends)  # before the read: what comes later only adds
            response = await read(self._pool, project_id, request)
            response.freshness.CopyFrom(fresh)
            return response

        return await answering(type(request).__name__.removesuffix("Request"), context, answer)
