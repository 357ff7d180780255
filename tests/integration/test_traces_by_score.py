"""Traces are found and put in order by their scores, page by page, and by indexes."""

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import grpc
import pytest
from lodestream_proto.v1 import query_pb2 as pb

from benchmarks.reads.plans import Head, head_of
from services.read.query import traces
from services.read.query.database import Database
from services.read.query.filters import Statement
from shared.storage.postgres import SEARCH_PATH
from tests.integration.test_query_plans import BEGAN, MAKE_TRACES
from tests.support.gateway import refusal
from tests.support.records import span
from tests.support.scores import score, score_event, trace
from tests.support.stack import Stack, waiting

TRACES = 50_000
# Every second trace has "quality", one in five has it twice; one in a thousand is "bad".
MAKE_SCORES = """
INSERT INTO scores (
    project_id, score_id, event_id, scored_at, digest, retracted, trace_id, name, type, number, label, comment,
    config_id, source, author, evaluator_version, environment, metadata
)
SELECT
    CASE WHEN n % 10 = 0 THEN 'q' ELSE 'p' END, kind || n, gen_random_uuid(), $2::timestamptz + n * interval '6 s', '',
    false, decode(md5(n::text), 'hex'), CASE kind WHEN 'tone' THEN 'tone' ELSE 'quality' END,
    CASE kind WHEN 'tone' THEN 2 ELSE 1 END, CASE WHEN kind <> 'tone' THEN (n * 7919 % 50000) / 50000.0 END,
    CASE WHEN kind = 'tone' THEN CASE WHEN n % 1000 = 1 THEN 'bad' ELSE 'good' END END, '', '', 1, '', '', '', ''
FROM generate_series(1, $1) AS n, unnest(ARRAY['first', 'second', 'tone']) AS kind
WHERE (kind = 'first' AND n % 2 = 1) OR (kind = 'second' AND n % 5 = 0) OR kind = 'tone'
"""


def condition(name: str = "quality", **asked: Any) -> pb.ScoreCondition:
    return pb.ScoreCondition(name=name, **asked)


async def number_of(stack: Stack, **options: Any) -> list[int]:
    """The numbers of the traces of a list, in its order."""
    return [int(found.trace_id, 16) for found in (await stack.list(**options)).traces]


@pytest.fixture
async def scored(stack: Stack) -> Stack:
    """Five traces: one without scores, one scored twice, one by its span, one by category; another project's beside."""
    positions = [await stack.export(*(span(n, 1, start_ms=n) for n in range(1, 6)))]
    payloads = [
        score("a", 0.2, target=trace(2)), score("b", 0.8, target=trace(2)), score("c", 0.5, target=trace(3, 1)),
        score("d", value=True, target=trace(4)), score("e", "good", name="tone", target=trace(4)),
        score("f", "bad", name="tone", target=trace(5)),
    ]  # fmt: skip
    events = [score_event(payload, number=n, at_s=n) for n, payload in enumerate(payloads, 1)]
    positions.append((await stack.record(*events)).position)
    theirs = score_event(score("x", 9.0, target=trace(1)), number=50)
    positions.append((await stack.record(theirs, project="other")).position)
    await stack.list(wait_for=waiting(",".join(positions)))
    return stack


async def test_a_filter_asks_for_one_score_that_meets_all_of_a_condition(scored: Stack) -> None:
    async def found(*conditions: pb.ScoreCondition) -> set[int]:
        return set(await number_of(scored, filter=pb.TraceFilter(scores=conditions)))

    assert await found(condition()) == {2, 3, 4}
    assert await found(condition(min_value=0.8)) == {2, 4}
    assert await found(condition(min_value=0.3, max_value=0.7)) == {3}, "no score of trace 2 is between its two"
    assert await found(condition("tone", categories=["good", "bad"])) == {4, 5}
    assert await found(condition("tone", categories=["good"]), condition(min_value=1)) == {4}
    assert await found(condition("tone", categories=["true"])) == set()
    assert await found(condition("quality", categories=["true"])) == set(), "a boolean is no category"
    assert await found(condition(min_value=2)) == set()


async def test_a_sort_by_score_goes_on_page_by_page_with_each_trace_once(scored: Stack) -> None:
    async def pages(order: Any) -> list[int]:
        request: dict[str, Any] = {"sort": pb.TRACE_SORT_SCORE, "sort_score": "quality", "order": order, "page_size": 1}
        seen, token = [], ""
        for _ in range(4):
            page = await scored.list(**request, page_token=token)
            seen += [int(found.trace_id, 16) for found in page.traces]
            if not (token := page.next_page_token):
                break
        return seen

    assert await pages(pb.SORT_ORDER_DESCENDING) == [4, 2, 3], "trace 2 at its 0.8"
    assert await pages(pb.SORT_ORDER_ASCENDING) == [2, 3, 4], "trace 2 at its 0.2"
    (first, *_) = (await scored.list(sort=pb.TRACE_SORT_SCORE, sort_score="quality")).traces
    assert [(column.name, column.average) for column in first.scores] == [("quality", 1.0), ("tone", 0.0)]


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("sort_score", {"sort": pb.TRACE_SORT_SCORE}),
        ("sort_score", {"sort": pb.TRACE_SORT_SCORE, "sort_score": "a\0"}),
        ("filter.scores[0].name", {"filter": pb.TraceFilter(scores=[pb.ScoreCondition()])}),
        (
            "filter.scores[1].max_value",
            {"filter": pb.TraceFilter(scores=[condition(), condition(max_value=float("nan"))])},
        ),
        ("filter.scores", {"filter": pb.TraceFilter(scores=[condition()] * 11)}),
    ],
)
async def test_what_cannot_be_asked_is_refused_by_name(scored: Stack, field: str, options: dict[str, Any]) -> None:
    error = await refusal(scored.list(**options))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (error.details() or "").startswith(f"{field}: ")


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    """A database of 50,000 traces and 85,000 scores, and a session as the query service has it."""
    settings = {"search_path": SEARCH_PATH, "plan_cache_mode": "force_custom_plan", "timezone": "UTC"}
    connection = await asyncpg.connect(database, server_settings=settings)
    try:
        await connection.execute(MAKE_TRACES, TRACES, BEGAN)
        await connection.execute(MAKE_SCORES, TRACES, BEGAN)
        await connection.execute("VACUUM (ANALYZE) traces, scores")
        yield connection
    finally:
        await connection.close()


async def head(connection: asyncpg.Connection, statement: Statement) -> Head:
    explain = "EXPLAIN (ANALYZE, TIMING OFF, BUFFERS, FORMAT JSON) "
    return head_of(json.loads(await connection.fetchval(explain + statement.sql, *statement.parameters))[0])


async def test_filters_and_sorts_by_score_read_little_by_their_indexes(connection) -> None:
    for condition_of_few, index in (
        (condition(min_value=0.999), "scores_by_number"),
        (condition("tone", categories=["bad"]), "scores_by_category"),
    ):
        request = pb.ListTracesRequest(filter=pb.TraceFilter(scores=[condition_of_few]))
        found = await head(connection, traces.list_statement("p", request))
        assert index in found.scans, found
        assert found.rows < 1_000, found
    for order in (pb.SORT_ORDER_DESCENDING, pb.SORT_ORDER_ASCENDING):
        request = pb.ListTracesRequest(sort=pb.TRACE_SORT_SCORE, sort_score="quality", order=order)
        for _ in range(3):
            found = await head(connection, traces.list_statement("p", request))
            assert "scores_by_number" in found.scans, found
            assert (found.sorted, found.rows < 1_000) == (False, True), found
            request.page_token = (
                await traces.list_traces(Database(connection, connection), "p", request)
            ).next_page_token
