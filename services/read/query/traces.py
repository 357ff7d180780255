"""ListTraces, and the rows of trace summaries that other reads show."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import asyncpg
from grpc import StatusCode
from lodestream_proto.v1.query_pb2 import (
    SORT_ORDER_ASCENDING,
    TRACE_SORT_COST,
    TRACE_SORT_LATENCY,
    TRACE_SORT_NAME,
    TRACE_SORT_SCORE,
    TRACE_SORT_START_TIME,
    TRACE_SORT_TOKENS,
    GetSessionRequest,
    ListTracesRequest,
    ListTracesResponse,
    TraceFilter,
)

from services.read.query.database import Database
from services.read.query.filters import LATENCY, NAME, Conditions, Statement, add_filter, containing
from services.read.query.messages import trace_summary
from services.read.query.paging import PageRequest, Sort, add_each, without_paging
from services.read.query.trace_scores import add_score_conditions, ranked_by_score, show_columns
from shared.runtime.refusal import InvalidError, RefusedError
from shared.storage.named_queries import load_queries

_QUERIES = load_queries(Path(__file__).with_suffix(".sql"))
_LIST_TRACES = _QUERIES["list_traces"]
_MATCH_NAMES = _QUERIES["match_names"]
_ID = ("trace_id", "trace_id", bytes)
_START = ("start_at", "start_at", datetime)
BY_START = Sort((_START, _ID))
BY_SCORE = Sort((("ranked_score", "ranked_score", float), ("scored_trace_id", "trace_id", bytes)))
"""Needs the join with `ranked_by_score`; the index is in migrations/scores/0001_pre_scores.sql."""
TRACE_SORTS: Mapping[int, Sort] = {
    TRACE_SORT_START_TIME: BY_START,
    TRACE_SORT_LATENCY: Sort(((LATENCY, "known_latency_us", int), _ID)),
    TRACE_SORT_COST: Sort((("cost_picos", "cost_picos", int), _ID)),
    TRACE_SORT_TOKENS: Sort((("total_tokens", "total_tokens", int), _ID)),
    TRACE_SORT_NAME: Sort(((NAME, "known_name", str), _START, _ID)),
    TRACE_SORT_SCORE: BY_SCORE,
}
"""The sorts of ListTraces; their indexes are in migrations/traces/0003_pre_read_indexes.sql."""
MAX_NAMES = 5_000
"""A project with more names of traces has its traces searched instead: some 8 µs for each name."""


async def list_traces(database: Database, project_id: str, request: ListTracesRequest) -> ListTracesResponse:
    """Return a page of trace summaries.

    Raises RefusedError naming the field that can't be used, or what to narrow when the database needs too long.
    """
    sort, page = _sort_and_page(request)
    try:
        names = None
        if request.filter.name_contains:
            names = await names_containing(database.search_pool, project_id, request.filter.name_contains)
        statement = _page_statement(project_id, request, sort, page, names)
        rows = await database.search_pool.fetch(statement.sql, *statement.parameters)
        rows, token = page.cut(rows, *sort.columns)
        response = ListTracesResponse(next_page_token=token)
        await add_each(response.traces, rows, trace_summary)
        await show_columns(database, project_id, response.traces)
    except asyncpg.QueryCanceledError:
        raise too_long("filter.names, user_ids, session_ids, environments, releases or tags") from None
    return response


def list_statement(project_id: str, request: ListTracesRequest, *, names: list[str] | None = None) -> Statement:
    """Return the statement of a page of traces.

    Args:
        project_id: The project whose traces are listed.
        request: What is requested of them.
        names: All names that contain filter.name_contains, where they are known.

    Raises RefusedError naming the field that can't be used.
    """
    return _page_statement(project_id, request, *_sort_and_page(request), names)


def _page_statement(
    project_id: str, request: ListTracesRequest, sort: Sort, page: PageRequest, names: list[str] | None
) -> Statement:
    ascending = request.order == SORT_ORDER_ASCENDING
    trace_filter, conditions = TraceFilter(), Conditions(project_id)
    trace_filter.CopyFrom(request.filter)
    if names is not None:
        trace_filter.ClearField("name_contains")
        conditions.add_any_of(NAME, names)
    add_filter(conditions, trace_filter)
    add_score_conditions(conditions, trace_filter.scores)
    ranked = None
    if sort is BY_SCORE:
        ranked = ranked_by_score(conditions, request.sort_score, ascending=ascending)
    sort.add_after(conditions, page, ascending=ascending)
    return _statement(conditions, order=sort.order(ascending=ascending), limit=page.size + 1, ranked=ranked)


async def names_containing(pool: asyncpg.Pool, project_id: str, text: str) -> list[str] | None:
    """Return the names of a project's traces that contain a text, in any case.

    Names are few where traces are many, so they are searched first. None means that there are too many of them.

    Raises RefusedError for a text that no name can contain.
    """
    row = await pool.fetchrow(_MATCH_NAMES, project_id, containing(text), MAX_NAMES + 1)
    return None if row["looked_at"] > MAX_NAMES else list(row["names"])


async def fetch_traces(pool: asyncpg.Pool, conditions: Conditions, *, order: str, limit: int) -> list[asyncpg.Record]:
    """Fetch rows of list_traces; `order` must hold no text of a caller's."""
    statement = _statement(conditions, order=order, limit=limit)
    return list(await pool.fetch(statement.sql, *statement.parameters))


async def find_trace(database: Database, project_id: str, trace_id: bytes) -> asyncpg.Record | None:
    """Return a trace's row of list_traces; None if the project has no such trace."""
    conditions = Conditions(project_id)
    conditions.add("trace_id = {}", trace_id)
    rows = await fetch_traces(database.point_pool, conditions, order="trace_id", limit=1)
    return rows[0] if rows else None


async def traces_of_session(
    pool: asyncpg.Pool, project_id: str, session_id: str, request: GetSessionRequest
) -> tuple[Sequence[asyncpg.Record], str]:
    """Return the rows of a page of a session's traces, oldest first, and the token of the next page."""
    page = PageRequest.of(request, *BY_START.types, bound=session_id.encode())
    conditions = Conditions(project_id)
    conditions.add_any_of("session_id", [session_id])
    BY_START.add_after(conditions, page, ascending=True)
    rows = await fetch_traces(pool, conditions, order=BY_START.order(ascending=True), limit=page.size + 1)
    return page.cut(rows, *BY_START.columns)


def too_long(fields: str) -> RefusedError:
    """Return the refusal of a query that was given up on: nothing is answered rather than a part."""
    return RefusedError(
        StatusCode.DEADLINE_EXCEEDED,
        "the query took too long and was ended, so there is no answer, not even a part; "
        f"ask for less time (filter.start_from, filter.start_before), or also by {fields}",
    )


def _statement(conditions: Conditions, *, order: str, limit: int, ranked: str | None = None) -> Statement:
    placeholder = conditions.parameter(limit)
    sql = _LIST_TRACES.format(
        conditions=conditions.sql(),
        order=order,
        limit=placeholder,
        score=", ranked_score" if ranked else "",
        ranked=f"JOIN ({ranked}) AS ranked ON scored_trace_id = trace_id" if ranked else "",
    )
    return Statement(sql, conditions.parameters)


def _sort_and_page(request: ListTracesRequest) -> tuple[Sort, PageRequest]:
    sort = TRACE_SORTS.get(request.sort or TRACE_SORT_START_TIME)
    if sort is None:
        raise InvalidError("sort", f"{request.sort} is no sort of this service")
    kept = ListTracesRequest(
        filter=request.filter,
        sort=request.sort or TRACE_SORT_START_TIME,
        order=request.order,
        sort_score=request.sort_score,
    )
    return sort, PageRequest.of(request, *sort.types, bound=without_paging(kept))
