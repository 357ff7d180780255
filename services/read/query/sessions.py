"""ListSessions and GetSession: sessions, and the traces of one."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
from lodestream_proto.v1.query_pb2 import (
    GetSessionRequest,
    GetSessionResponse,
    ListSessionsRequest,
    ListSessionsResponse,
    TraceFilter,
)
from lodestream_proto.v1.trace_pb2 import SessionSummary, Tokens

from services.read.query.database import Database
from services.read.query.filters import Conditions, Statement, add_filter
from services.read.query.messages import timestamp, trace_summary
from services.read.query.money import to_dollars
from services.read.query.paging import PageRequest, Sort, add_each, without_paging
from services.read.query.trace_scores import show_columns
from services.read.query.traces import too_long, traces_of_session
from shared.runtime.refusal import InvalidError, NotFoundError
from shared.storage.named_queries import load_queries

_LIST_SESSIONS = load_queries(Path(__file__).with_name("traces.sql"))["list_sessions"]
_BY_ACTIVITY = Sort((("last_start_at", "last_start_at", datetime), ("session_id", "session_id", str)))
_MAX_TOKENS = 2**63 - 1
# At least one of the session's traces must meet the conditions.
_WITH_A_TRACE = "session_id IN (SELECT session_id FROM traces WHERE project_id = $1 AND session_id IS NOT NULL{})"


async def list_sessions(database: Database, project_id: str, request: ListSessionsRequest) -> ListSessionsResponse:
    """Return a page of sessions, newest activity first.

    Raises RefusedError naming the field that can't be used, or what to narrow when the database needs too long.
    """
    statement = list_statement(project_id, request)
    try:
        rows = await database.search_pool.fetch(statement.sql, *statement.parameters)
    except asyncpg.QueryCanceledError:
        raise too_long("user_ids or environments") from None
    rows, token = _page(request).cut(rows, *_BY_ACTIVITY.columns)
    return ListSessionsResponse(sessions=[_summary(row) for row in rows], next_page_token=token)


async def get_session(database: Database, project_id: str, request: GetSessionRequest) -> GetSessionResponse:
    """Return a session and a page of its traces, oldest first.

    Raises RefusedError: NOT_FOUND when the project has no such session.
    """
    if not request.session_id or "\0" in request.session_id:
        raise InvalidError("session_id", "must be a session's id")
    conditions = Conditions(project_id)
    conditions.add("session_id = {}", request.session_id)
    statement = _statement(conditions, limit=1)
    row = await database.search_pool.fetchrow(statement.sql, *statement.parameters)
    if row is None:
        raise NotFoundError(f"session {request.session_id!r}")
    rows, token = await traces_of_session(database.search_pool, project_id, request.session_id, request)
    response = GetSessionResponse(session=_summary(row), next_page_token=token)
    await add_each(response.traces, rows, trace_summary)
    await show_columns(database, project_id, response.traces)
    return response


def list_statement(project_id: str, request: ListSessionsRequest) -> Statement:
    """Return the statement of a page of sessions.

    Raises RefusedError naming the field that can't be used.
    """
    conditions, page = Conditions(project_id), _page(request)
    add_filter(conditions, _trace_filter(request))
    if trace_conditions := conditions.take():
        conditions.add_raw(_WITH_A_TRACE.format(trace_conditions))
    if request.HasField("start_from"):  # follows from the above, and lets the index end there
        conditions.add("last_start_at >= {}", request.start_from.ToDatetime(tzinfo=UTC))
    _BY_ACTIVITY.add_after(conditions, page, ascending=False)
    return _statement(conditions, limit=page.size + 1)


def _statement(conditions: Conditions, *, limit: int) -> Statement:
    placeholder = conditions.parameter(limit)
    order = _BY_ACTIVITY.order(ascending=False)
    sql = _LIST_SESSIONS.format(conditions=conditions.sql(), order=order, limit=placeholder)
    return Statement(sql, conditions.parameters)


def _trace_filter(request: ListSessionsRequest) -> TraceFilter:
    trace_filter = TraceFilter(user_ids=request.user_ids, environments=request.environments)
    for field in ("start_from", "start_before"):
        if request.HasField(field):
            getattr(trace_filter, field).CopyFrom(getattr(request, field))
    return trace_filter


def _page(request: ListSessionsRequest) -> PageRequest:
    return PageRequest.of(request, *_BY_ACTIVITY.types, bound=without_paging(_trace_filter(request)))


def _summary(row: Any) -> SessionSummary:
    return SessionSummary(
        session_id=row["session_id"],
        start_time=timestamp(row["start_at"]),
        end_time=timestamp(row["end_at"]),
        trace_count=row["trace_count"],
        error_count=row["error_count"],
        user_ids=row["user_ids"],
        environments=row["environments"],
        tokens=Tokens(**{kind: min(int(row[f"{kind}_tokens"]), _MAX_TOKENS) for kind in ("input", "output", "total")}),
        cost_usd=to_dollars(int(row["cost_picos"])),
    )
