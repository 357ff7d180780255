"""ListSessions and GetSession: traces by the session they belong to."""

from typing import Any

import asyncpg
from lodestream_proto.v1.query_pb2 import (
    GetSessionRequest,
    GetSessionResponse,
    ListSessionsRequest,
    ListSessionsResponse,
    TraceFilter,
)
from lodestream_proto.v1.trace_pb2 import SessionSummary

from services.read.query import nouns
from services.read.query.filters import Conditions, add_filter
from services.read.query.paging import from_token, page_size, to_token
from services.read.query.traces import SQL, start_key, summaries, traces_of_session
from shared.read_model.postgres import load_sql
from shared.runtime.refusal import InvalidError, NotFoundError

LIST_SESSIONS = load_sql(SQL / "list_sessions.sql")
_DOLLAR = 10**12
_AFTER = """
HAVING max(start_at) <= timestamptz 'epoch' + {0}::bigint * interval '1 microsecond' AND (
    max(start_at) < timestamptz 'epoch' + {0}::bigint * interval '1 microsecond' OR session_id > {1}
)"""


async def list_sessions(pool: asyncpg.Pool, project_id: str, request: ListSessionsRequest) -> ListSessionsResponse:
    """A page of sessions, newest activity first.

    Raises RefusedError naming the field that can't be used.
    """
    size = page_size(request.page_size)
    wanted = TraceFilter(user_ids=request.user_ids, environments=request.environments)
    for field in ("start_from", "start_before"):
        if request.HasField(field):
            getattr(wanted, field).CopyFrom(getattr(request, field))
    bound = wanted.SerializeToString(deterministic=True)
    conditions = Conditions(project_id)
    add_filter(conditions, wanted)
    after = ""
    if last := from_token(bound, request.page_token, int, str):
        after = _AFTER.format(conditions.parameter(last[0]), conditions.parameter(last[1]))
    rows = await _fetch(pool, conditions, after=after, limit=size + 1)
    token = ""
    if len(rows) > size:
        token = to_token(
            bound, [nouns.microseconds_since_1970(rows[size - 1]["last_start_at"]), rows[size - 1]["session_id"]]
        )
    return ListSessionsResponse(sessions=[_summary(row) for row in rows[:size]], next_page_token=token)


async def get_session(pool: asyncpg.Pool, project_id: str, request: GetSessionRequest) -> GetSessionResponse:
    """A session and a page of its traces.

    Raises RefusedError: NOT_FOUND when the project has no such session.
    """
    if not request.session_id or "\0" in request.session_id:
        raise InvalidError("session_id", "must be a session's id")
    size = page_size(request.page_size)
    conditions = Conditions(project_id)
    conditions.add("session_id = {}", request.session_id)
    found = await _fetch(pool, conditions, after="", limit=1)
    if not found:
        raise NotFoundError(f"session {request.session_id!r}")
    bound = request.session_id.encode()
    after = from_token(bound, request.page_token, int, str)
    rows = await traces_of_session(pool, project_id, request.session_id, size=size, after=after)
    token = to_token(bound, start_key(rows[size - 1])) if len(rows) > size else ""
    return GetSessionResponse(session=_summary(found[0]), traces=summaries(rows[:size]), next_page_token=token)


async def _fetch(pool: asyncpg.Pool, conditions: Conditions, *, after: str, limit: int) -> list[asyncpg.Record]:
    placeholder = conditions.parameter(limit)
    statement = LIST_SESSIONS.format(conditions=conditions.sql(), after=after, limit=placeholder)
    return list(await pool.fetch(statement, *conditions.parameters))


def _summary(row: Any) -> SessionSummary:
    return SessionSummary(
        session_id=row["session_id"],
        start_time=nouns.timestamp(row["start_at"]),
        end_time=nouns.timestamp(row["end_at"]),
        trace_count=row["trace_count"],
        error_count=row["error_count"],
        user_ids=row["user_ids"],
        environments=row["environments"],
        tokens=nouns.tokens(row),
        cost_usd=row["cost_picos"] / _DOLLAR,
    )
