"""What a page of traces costs is what it shows: each filter and each sort reads by an index, few rows, in order."""

import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from lodestream_proto.v1 import query_pb2 as pb
from lodestream_proto.v1.trace_pb2 import LEVEL_ERROR, LEVEL_WARNING

from benchmarks.reads.plans import Head, head_of
from services.read.query import sessions, traces
from services.read.query.database import Database
from services.read.query.filters import Statement
from services.read.query.trace_spans import GET_ALL
from shared.storage.postgres import SEARCH_PATH

BEGAN = datetime(2026, 5, 1, tzinfo=UTC)
TRACES = 50_000
# Ten a minute. Most have the name "answer"; the first thousand the environment "old"; one in 5,000 is tagged "rare".
MAKE_TRACES = """
INSERT INTO traces (
    project_id, trace_id, start_at, end_at, last_start_at, received_at, last_received_at, root_start_at, root_span_id,
    root_name, root_user_id, root_session_id, root_environment, root_release, tags, level, span_count, type_counts,
    level_counts, input_tokens, output_tokens, total_tokens, cost_picos, retrieval_busy, generation_busy, tool_busy,
    child_busy
)
SELECT
    CASE WHEN n % 10 = 0 THEN 'q' ELSE 'p' END, decode(md5(n::text), 'hex'), at,
    at + (n * 7919 % 50000) * interval '1 ms', at, at, at, at, '\\x0000000000000001',
    CASE WHEN n % 3 = 0 THEN 'name ' || n % 500 ELSE 'answer' END,
    'user-' || n % 997, 'session-' || n / 8, CASE WHEN n <= 1000 THEN 'old' ELSE 'production' END, '4.' || n / 5000,
    CASE WHEN n % 5000 = 1 THEN '{rare}' WHEN n % 2 = 0 THEN '{chat}' ELSE '{}' END::text[],
    CASE WHEN n % 50 = 1 THEN 4 WHEN n % 50 = 2 THEN 3 ELSE 2 END, 1, '{1,0,0,0,0,0,0,0,0,0}',
    CASE WHEN n % 50 = 1 THEN '{0,0,0,1}' ELSE '{0,1,0,0}' END::bigint[], n % 1009, 0, n % 1009, n * 31 % 65537,
    '{}', '{}', '{}', '{}'
FROM generate_series(1, $1) AS n, LATERAL (SELECT $2::timestamptz + n * interval '6 s') AS times (at)
"""


def day(number: int) -> pb.TraceFilter:
    wanted = pb.TraceFilter()
    wanted.start_from.FromDatetime(BEGAN + timedelta(days=number))
    wanted.start_before.FromDatetime(BEGAN + timedelta(days=number + 1))
    return wanted


FILTERS: Mapping[str, tuple[pb.TraceFilter, str]] = {
    "none": (pb.TraceFilter(), "traces_by_start"),
    "time": (day(1), "traces_by_start"),
    "a name few have": (pb.TraceFilter(names=["name 42"]), "traces_by_name"),
    "a name most have": (pb.TraceFilter(names=["answer"]), "traces_by_name"),
    "a user": (pb.TraceFilter(user_ids=["user-5"]), "traces_by_user"),
    "a session": (pb.TraceFilter(session_ids=["session-77"]), "traces_by_session"),
    "an old environment": (pb.TraceFilter(environments=["old"]), "traces_by_environment"),
    "an old release": (pb.TraceFilter(releases=["4.0"]), "traces_by_release"),
    "a tag few have": (pb.TraceFilter(tags=["rare"]), "traces_by_tags"),
    "a tag nobody has": (pb.TraceFilter(tags=["none"]), "traces_by_tags"),
    "warnings": (pb.TraceFilter(min_level=LEVEL_WARNING), "traces_in_trouble"),
    "errors": (pb.TraceFilter(min_level=LEVEL_ERROR), "traces_in_trouble"),
    "has an error": (pb.TraceFilter(has_error=True), "traces_in_trouble"),
    "slow": (pb.TraceFilter(min_latency_us=49_900_000), "traces_by_latency"),
    "fast": (pb.TraceFilter(max_latency_us=50_000), "traces_by_latency"),
    "dear": (pb.TraceFilter(min_cost_usd=65_500e-12), "traces_by_cost"),
    "cheap": (pb.TraceFilter(max_cost_usd=50e-12), "traces_by_cost"),
    "many tokens": (pb.TraceFilter(min_tokens=1_008), "traces_by_tokens"),
    "few tokens": (pb.TraceFilter(max_tokens=0), "traces_by_tokens"),
}
SORTS = {
    pb.TRACE_SORT_START_TIME: "traces_by_start",
    pb.TRACE_SORT_LATENCY: "traces_by_latency",
    pb.TRACE_SORT_COST: "traces_by_cost",
    pb.TRACE_SORT_TOKENS: "traces_by_tokens",
    pb.TRACE_SORT_NAME: "traces_by_name",
}


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    """A database of 50,000 traces, 45,000 of them the project p's, and a session as the query service has it."""
    settings = {"search_path": SEARCH_PATH, "plan_cache_mode": "force_custom_plan", "timezone": "UTC"}
    connection = await asyncpg.connect(database, server_settings=settings)
    try:
        await connection.execute(MAKE_TRACES, TRACES, BEGAN)
        await connection.execute("VACUUM (ANALYZE) traces, sessions")
        yield connection
    finally:
        await connection.close()


async def head(connection: asyncpg.Connection, statement: Statement) -> Head:
    explain = "EXPLAIN (ANALYZE, TIMING OFF, BUFFERS, FORMAT JSON) "
    return head_of(json.loads(await connection.fetchval(explain + statement.sql, *statement.parameters))[0])


async def test_every_filter_and_every_sort_reads_little_by_its_index(connection) -> None:
    for name, (wanted, index) in FILTERS.items():
        found = await head(connection, traces.list_statement("p", pb.ListTracesRequest(filter=wanted)))
        assert (found.scans, found.rows < 1_000) == ((index,), True), (name, found)
    for sort, index in SORTS.items():
        for order in (pb.SORT_ORDER_DESCENDING, pb.SORT_ORDER_ASCENDING):
            request = pb.ListTracesRequest(sort=sort, order=order)
            found = await head(connection, traces.list_statement("p", request))
            assert (found.scans, found.sorted, found.rows) == ((index,), False, 51), (request, found)


async def test_a_page_far_behind_costs_as_much_as_the_first(connection) -> None:
    for sort, index in SORTS.items():
        request = pb.ListTracesRequest(sort=sort, page_size=1_000)
        for _ in range(20):
            request.page_token = (
                await traces.list_traces(Database(connection, connection), "p", request)
            ).next_page_token
        found = await head(connection, traces.list_statement("p", request))
        assert (found.scans, found.sorted, found.rows) == ((index,), False, 1_001), (request, found)


async def test_a_text_in_a_name_is_looked_for_among_the_names(connection) -> None:
    request = pb.ListTracesRequest(filter=pb.TraceFilter(name_contains="ME 49"))
    answer = await traces.list_traces(Database(connection, connection), "p", request)
    assert {trace.name for trace in answer.traces} == {"name 49"} | {f"name {n}" for n in range(491, 500)}
    found = await head(connection, traces.list_statement("p", request, names=["name 49", "name 491"]))
    assert found.scans == ("traces_by_name",)
    request.filter.name_contains = "no such"
    assert not (await traces.list_traces(Database(connection, connection), "p", request)).traces


async def test_a_page_of_sessions_reads_as_many_rows(connection) -> None:
    found = await head(connection, sessions.list_statement("p", pb.ListSessionsRequest()))
    assert (found.scans, found.sorted, found.rows) == (("sessions_by_activity",), False, 51)
    found = await head(connection, sessions.list_statement("p", pb.ListSessionsRequest(user_ids=["user-5"])))
    assert "traces_by_user" in found.scans
    assert found.rows < 1_000


async def test_a_trace_is_looked_for_in_the_days_of_its_spans_alone(connection) -> None:
    for number in range(10):
        first = date(2026, 5, 1) + timedelta(days=number)
        await connection.execute(
            f"CREATE TABLE spans_{number} PARTITION OF spans FOR VALUES FROM ('{first}') TO ('{first + timedelta(1)}')"
        )
    parameters: list[Any] = ["p", bytes(16), date(2026, 5, 4), date(2026, 5, 5)]
    found = await head(connection, Statement(GET_ALL, parameters))
    assert set(found.scans) == {"spans_3_pkey", "spans_4_pkey"}
