"""ListTraces: filters, sorts, and pages that go on where the last one ended."""

from pathlib import Path

import asyncpg
from lodestream_proto.v1.query_pb2 import (
    SORT_ORDER_ASCENDING,
    TRACE_SORT_COST,
    TRACE_SORT_LATENCY,
    TRACE_SORT_NAME,
    TRACE_SORT_START_TIME,
    TRACE_SORT_TOKENS,
    TRACE_SORT_UNSPECIFIED,
    ListTracesRequest,
    ListTracesResponse,
    TraceFilter,
)
from lodestream_proto.v1.trace_pb2 import TraceSummary

from services.read.query.filters import Conditions, add_filter
from services.read.query.nouns import microseconds_since_1970, trace_summary
from services.read.query.paging import from_token, page_size, to_token
from shared.read_model.postgres import load_sql
from shared.runtime.refusal import InvalidError

SQL = Path(__file__).parent / "sql"
LIST_TRACES = load_sql(SQL / "list_traces.sql")

# What a sort compares; never null, so that a page's end can be compared with. Times are µs since 1970 in a token.
_EXPRESSIONS = {
    TRACE_SORT_LATENCY: "coalesce(latency_us, -1)",
    TRACE_SORT_COST: "cost_picos",
    TRACE_SORT_TOKENS: "total_tokens",
    TRACE_SORT_NAME: "coalesce(name, '')",
}
_START = "start_at"
_FROM_US = "timestamptz 'epoch' + {} * interval '1 microsecond'"


async def list_traces(pool: asyncpg.Pool, project_id: str, request: ListTracesRequest) -> ListTracesResponse:
    """A page of summaries.

    Raises RefusedError naming the field that can't be used.
    """
    size, sort = page_size(request.page_size), request.sort or TRACE_SORT_START_TIME
    ascending = request.order == SORT_ORDER_ASCENDING
    if sort != TRACE_SORT_START_TIME and sort not in _EXPRESSIONS:
        raise InvalidError("sort", f"{request.sort} is no sort of this service")
    bound = ListTracesRequest(filter=request.filter, sort=sort, order=request.order).SerializeToString(
        deterministic=True
    )
    conditions = Conditions(project_id)
    add_filter(conditions, request.filter)
    kind = str if sort == TRACE_SORT_NAME else int
    expression = _EXPRESSIONS.get(sort, _START)
    if last := from_token(bound, request.page_token, kind, str):
        key, trace_id = last
        if not isinstance(trace_id, str) or key is None:
            raise InvalidError("page_token", "it is not a token of this service")
        _go_on(conditions, expression, key, trace_id, ascending=ascending)
    rows = await fetch_traces(
        pool, conditions, order=f"{expression} {'ASC' if ascending else 'DESC'}, trace_id", limit=size + 1
    )
    token = ""
    if len(rows) > size:
        token = to_token(bound, [_key(rows[size - 1], sort), rows[size - 1]["trace_id"].hex()])
    return ListTracesResponse(traces=[trace_summary(row) for row in rows[:size]], next_page_token=token)


async def fetch_traces(pool: asyncpg.Pool, conditions: Conditions, *, order: str, limit: int) -> list[asyncpg.Record]:
    """Rows of list_traces.sql; `order` is text of ours."""
    placeholder = conditions.parameter(limit)
    statement = LIST_TRACES.format(conditions=conditions.sql(), order=order, limit=placeholder)
    return list(await pool.fetch(statement, *conditions.parameters))


async def find_trace(pool: asyncpg.Pool, project_id: str, trace_id: bytes) -> asyncpg.Record | None:
    """One trace's row of list_traces.sql."""
    conditions = Conditions(project_id)
    conditions.add("trace_id = {}", trace_id)
    rows = await fetch_traces(pool, conditions, order="trace_id", limit=1)
    return rows[0] if rows else None


async def traces_of_session(
    pool: asyncpg.Pool, project_id: str, session_id: str, *, size: int, after: list[str | int | None] | None
) -> list[asyncpg.Record]:
    """A session's traces, oldest first, one more than `size` when there are."""
    conditions = Conditions(project_id)
    add_filter(conditions, TraceFilter(session_ids=[session_id]))
    if after and isinstance(after[0], int) and isinstance(after[1], str):
        _go_on(conditions, _START, after[0], after[1], ascending=True)
    return await fetch_traces(pool, conditions, order="start_at, trace_id", limit=size + 1)


def summaries(rows: list[asyncpg.Record]) -> list[TraceSummary]:
    """Rows as messages."""
    return [trace_summary(row) for row in rows]


def start_key(row: asyncpg.Record) -> list[str | int | None]:
    """Where a page that is sorted by start ends."""
    return [_key(row, TRACE_SORT_START_TIME), row["trace_id"].hex()]


def _go_on(conditions: Conditions, expression: str, key: str | int, trace_id: str, *, ascending: bool) -> None:
    value = conditions.parameter(key)
    if expression == _START:
        value = _FROM_US.format(f"{value}::bigint")
    try:
        behind = conditions.parameter(bytes.fromhex(trace_id))
    except ValueError:
        raise InvalidError("page_token", "it is not a token of this service") from None
    than = ">" if ascending else "<"
    # The first comparison lets an index stop where the page begins.
    conditions.add_raw(f"{expression} {than}= {value} AND ({expression} {than} {value} OR trace_id > {behind})")


def _key(row: asyncpg.Record, sort: int) -> str | int:
    match sort:
        case _ if sort in (TRACE_SORT_START_TIME, TRACE_SORT_UNSPECIFIED):
            return microseconds_since_1970(row["start_at"])
        case _ if sort == TRACE_SORT_LATENCY:
            return -1 if row["latency_us"] is None else int(row["latency_us"])
        case _ if sort == TRACE_SORT_COST:
            return int(row["cost_picos"])
        case _ if sort == TRACE_SORT_TOKENS:
            return int(row["total_tokens"])
    return str(row["name"] or "")
