"""ListTraces: filters, sorts, and pages that go on where the last one ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from grpc import StatusCode
from lodestream_proto.v1.query_pb2 import (
    SORT_ORDER_ASCENDING,
    TRACE_SORT_START_TIME,
    ListTracesRequest,
    ListTracesResponse,
    TraceFilter,
)

from services.read.query.database import Database
from services.read.query.filters import NAME, Conditions, add_filter
from services.read.query.names import names_containing
from services.read.query.nouns import trace_summary
from services.read.query.paging import add_each, page_size
from services.read.query.scores.of_traces import add_score_conditions, ranked_by_score, show_columns
from services.read.query.sorts import BY_SCORE, BY_START, TRACE_SORTS, page_of
from shared.read_model.postgres import load_sql
from shared.runtime.refusal import InvalidError, RefusedError

SQL = Path(__file__).parent / "sql"
LIST_TRACES = load_sql(SQL / "list_traces.sql")


@dataclass(frozen=True, slots=True)
class Statement:
    """A query and its parameters."""

    sql: str
    parameters: list[Any]


async def list_traces(database: Database, project_id: str, request: ListTracesRequest) -> ListTracesResponse:
    """A page of summaries.

    Raises RefusedError naming the field that can't be used, or what to narrow when the database needs too long.
    """
    bound, size = _bound(request), page_size(request.page_size)
    try:
        names = None
        if request.filter.name_contains:
            names = await names_containing(database.searches, project_id, request.filter.name_contains)
        statement = list_statement(project_id, request, names=names)
        rows = await database.searches.fetch(statement.sql, *statement.parameters)
        rows, token = page_of(rows, size, TRACE_SORTS[request.sort or TRACE_SORT_START_TIME], bound)
        response = ListTracesResponse(next_page_token=token)
        await add_each(response.traces, rows, trace_summary)
        await show_columns(database, project_id, response.traces)
    except asyncpg.QueryCanceledError:
        raise too_long("filter.names, user_ids, session_ids, environments, releases or tags") from None
    return response


def list_statement(project_id: str, request: ListTracesRequest, *, names: list[str] | None = None) -> Statement:
    """A page and one row more. `names`: those that contain filter.name_contains, where known.

    Raises RefusedError naming the field that can't be used.
    """
    sort, ascending = TRACE_SORTS.get(request.sort or TRACE_SORT_START_TIME), request.order == SORT_ORDER_ASCENDING
    if sort is None:
        raise InvalidError("sort", f"{request.sort} is no sort of this service")
    wanted, conditions = TraceFilter(), Conditions(project_id)
    wanted.CopyFrom(request.filter)
    if names is not None:
        wanted.ClearField("name_contains")
        conditions.add_any_of(NAME, names)
    add_filter(conditions, wanted)
    add_score_conditions(conditions, wanted.scores)
    ranked = None
    if sort is BY_SCORE:
        ranked = ranked_by_score(conditions, request.sort_score, ascending=ascending)
    sort.go_on(conditions, _bound(request), request.page_token, ascending=ascending)
    limit = page_size(request.page_size) + 1
    return _statement(conditions, order=sort.order(ascending=ascending), limit=limit, ranked=ranked)


async def fetch_traces(pool: asyncpg.Pool, conditions: Conditions, *, order: str, limit: int) -> list[asyncpg.Record]:
    """Rows of list_traces.sql; `order` is text of ours."""
    statement = _statement(conditions, order=order, limit=limit)
    return list(await pool.fetch(statement.sql, *statement.parameters))


async def find_trace(database: Database, project_id: str, trace_id: bytes) -> asyncpg.Record | None:
    """One trace's row of list_traces.sql."""
    conditions = Conditions(project_id)
    conditions.add("trace_id = {}", trace_id)
    rows = await fetch_traces(database.look_ups, conditions, order="trace_id", limit=1)
    return rows[0] if rows else None


async def traces_of_session(
    pool: asyncpg.Pool, project_id: str, session_id: str, *, size: int, page_token: str
) -> tuple[Sequence[asyncpg.Record], str]:
    """Rows of a page of a session's traces, oldest first, and the next one's token."""
    bound, conditions = session_id.encode(), Conditions(project_id)
    conditions.add_any_of("session_id", [session_id])
    BY_START.go_on(conditions, bound, page_token, ascending=True)
    rows = await fetch_traces(pool, conditions, order=BY_START.order(ascending=True), limit=size + 1)
    return page_of(rows, size, BY_START, bound)


def too_long(fields: str) -> RefusedError:
    """The database was given up on; nothing is answered rather than a part."""
    return RefusedError(
        StatusCode.DEADLINE_EXCEEDED,
        "the query took too long and was ended, so there is no answer, not even a part; "
        f"ask for less time (filter.start_from, filter.start_before), or also by {fields}",
    )


def _statement(conditions: Conditions, *, order: str, limit: int, ranked: str | None = None) -> Statement:
    placeholder = conditions.parameter(limit)
    sql = LIST_TRACES.format(
        conditions=conditions.sql(),
        order=order,
        limit=placeholder,
        score=", ranked_score" if ranked else "",
        ranked=f"JOIN ({ranked}) AS ranked ON scored_trace_id = trace_id" if ranked else "",
    )
    return Statement(sql, conditions.parameters)


def _bound(request: ListTracesRequest) -> bytes:
    """What must be the same from page to page."""
    kept = ListTracesRequest(
        filter=request.filter,
        sort=request.sort or TRACE_SORT_START_TIME,
        order=request.order,
        sort_score=request.sort_score,
    )
    return kept.SerializeToString(deterministic=True)
