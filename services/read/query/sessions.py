"""ListSessions and GetSession: sessions, and the traces that belong to one."""

from datetime import UTC
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

from services.read.query import nouns
from services.read.query.database import Database
from services.read.query.filters import Conditions, add_filter
from services.read.query.paging import add_each, page_size
from services.read.query.scores.of_traces import show_columns
from services.read.query.sorts import BY_ACTIVITY, page_of
from services.read.query.traces import SQL, Statement, too_long, traces_of_session
from shared.read_model.postgres import load_sql
from shared.runtime.refusal import InvalidError, NotFoundError

LIST_SESSIONS = load_sql(SQL / "list_sessions.sql")
_DOLLAR = 10**12
_MOST = 2**63 - 1
# At least one of the session's traces must be as asked for.
_WITH_A_TRACE = "session_id IN (SELECT session_id FROM traces WHERE project_id = $1 AND session_id IS NOT NULL{})"


async def list_sessions(database: Database, project_id: str, request: ListSessionsRequest) -> ListSessionsResponse:
    """A page of sessions, newest activity first.

    Raises RefusedError naming the field that can't be used, or what to narrow when the database needs too long.
    """
    statement = list_statement(project_id, request)
    try:
        rows = await database.searches.fetch(statement.sql, *statement.parameters)
    except asyncpg.QueryCanceledError:
        raise too_long("user_ids or environments") from None
    shown, token = page_of(rows, page_size(request.page_size), BY_ACTIVITY, _bound(request))
    return ListSessionsResponse(sessions=[_summary(row) for row in shown], next_page_token=token)


async def get_session(database: Database, project_id: str, request: GetSessionRequest) -> GetSessionResponse:
    """A session and a page of its traces.

    Raises RefusedError: NOT_FOUND when the project has no such session.
    """
    if not request.session_id or "\0" in request.session_id:
        raise InvalidError("session_id", "must be a session's id")
    size, conditions = page_size(request.page_size), Conditions(project_id)
    conditions.add("session_id = {}", request.session_id)
    statement = _statement(conditions, limit=1)
    row = await database.searches.fetchrow(statement.sql, *statement.parameters)
    if row is None:
        raise NotFoundError(f"session {request.session_id!r}")
    rows, token = await traces_of_session(
        database.searches, project_id, request.session_id, size=size, page_token=request.page_token
    )
    response = GetSessionResponse(session=_summary(row), next_page_token=token)
    await add_each(response.traces, rows, nouns.trace_summary)
    await show_columns(database, project_id, response.traces)
    return response


def list_statement(project_id: str, request: ListSessionsRequest) -> Statement:
    """A page and one row more.

    Raises RefusedError naming the field that can't be used.
    """
    conditions, wanted = Conditions(project_id), _wanted(request)
    add_filter(conditions, wanted)
    if of_a_trace := conditions.take():
        conditions.add_raw(_WITH_A_TRACE.format(of_a_trace))
    if request.HasField("start_from"):  # follows from the above, and lets the index end there
        conditions.add("last_start_at >= {}", request.start_from.ToDatetime(tzinfo=UTC))
    BY_ACTIVITY.go_on(conditions, _bound(request), request.page_token, ascending=False)
    return _statement(conditions, limit=page_size(request.page_size) + 1)


def _statement(conditions: Conditions, *, limit: int) -> Statement:
    placeholder = conditions.parameter(limit)
    order = BY_ACTIVITY.order(ascending=False)
    sql = LIST_SESSIONS.format(conditions=conditions.sql(), order=order, limit=placeholder)
    return Statement(sql, conditions.parameters)


def _wanted(request: ListSessionsRequest) -> TraceFilter:
    wanted = TraceFilter(user_ids=request.user_ids, environments=request.environments)
    for field in ("start_from", "start_before"):
        if request.HasField(field):
            getattr(wanted, field).CopyFrom(getattr(request, field))
    return wanted


def _bound(request: ListSessionsRequest) -> bytes:
    """What must be the same from page to page."""
    return _wanted(request).SerializeToString(deterministic=True)


def _summary(row: Any) -> SessionSummary:
    return SessionSummary(
        session_id=row["session_id"],
        start_time=nouns.timestamp(row["start_at"]),
        end_time=nouns.timestamp(row["end_at"]),
        trace_count=row["trace_count"],
        error_count=row["error_count"],
        user_ids=row["user_ids"],
        environments=row["environments"],
        tokens=Tokens(**{kind: min(int(row[f"{kind}_tokens"]), _MOST) for kind in ("input", "output", "total")}),
        cost_usd=int(row["cost_picos"]) / _DOLLAR,
    )
