"""A span on its whole way: OTLP → gateway → Kafka → projection → Postgres → query → the caller, in one place."""

import asyncio
from typing import Any

import grpc
import pytest
from lodestream_proto.v1 import query_pb2 as pb
from lodestream_proto.v1.trace_pb2 import LEVEL_ERROR, SPAN_TYPE_GENERATION, SPAN_TYPE_RETRIEVER
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.support.polling import until
from tests.support.records import NOON, span
from tests.support.stack import Stack, waiting


def answer_of_a_question() -> list[Span]:
    """A chain with a retriever and a generation below it, which failed."""
    failed = span(
        7, 3, parent=1, name="llm", start_ms=40, end_ms=90,
        attributes={
            "gen_ai.operation.name": "chat", "gen_ai.request.model": "mock-large",
            "gen_ai.usage.input_tokens": 100, "gen_ai.usage.cache_read.input_tokens": 40,
            "gen_ai.usage.output_tokens": 10, "gen_ai.input.messages": '[{"role":"user"}]', "custom": "kept",
        },
    )  # fmt: skip
    failed.status.code = Status.STATUS_CODE_ERROR
    failed.status.message = "the model hung up"
    return [
        span(7, 1, name="answer", end_ms=100, attributes={"user.id": "ada", "session.id": "s1", "input.value": "why?"}),
        span(7, 2, parent=1, name="search", start_ms=5, end_ms=35, attributes={"openinference.span.kind": "RETRIEVER"}),
        failed,
    ]


async def test_what_is_acknowledged_is_read_back_whole(stack: Stack) -> None:
    token = await stack.export(*answer_of_a_question())
    answer = await stack.get(7, with_content=True, wait_for=waiting(token))
    trace, spans = answer.trace, answer.spans
    assert (trace.name, trace.user_id, trace.session_id, trace.root_seen) == ("answer", "ada", "s1", True)
    assert (trace.span_count, trace.error_count, trace.level) == (3, 1, LEVEL_ERROR)
    assert (trace.tokens.input, trace.tokens.output, trace.tokens.total) == (100, 10, 110)
    assert trace.cost_usd == pytest.approx((60 * 2 + 40 * 0.5 + 10 * 8) / 1e6)
    assert trace.latency_us == 100_000
    anatomy = trace.anatomy
    assert (anatomy.retrieval_us, anatomy.generation_us, anatomy.other_us, anatomy.idle_us) == (
        30_000,
        50_000,
        0,
        20_000,
    )
    assert [found.name for found in spans] == ["answer", "search", "llm"]
    assert [found.type for found in spans[1:]] == [SPAN_TYPE_RETRIEVER, SPAN_TYPE_GENERATION]
    assert dict(spans[2].usage) == {"input": 60, "input_cached_tokens": 40, "output": 10}
    assert spans[2].status_message == "the model hung up"
    assert all(found.critical for found in spans)
    assert spans[0].content.input == "why?"
    assert spans[2].content.input == '[{"role":"user"}]'
    assert spans[2].content.attributes_json == '{"custom":"kept"}'
    assert answer.freshness.complete_until.ToDatetime() > NOON.replace(tzinfo=None)


async def test_a_tenant_sees_only_its_own(stack: Stack) -> None:
    token = await stack.export(span(1, 1, attributes={"session.id": "s"}))
    theirs = await stack.export(span(2, 1), project="other")
    assert [t.trace_id[-1] for t in (await stack.list(wait_for=waiting(f"{token},{theirs}"))).traces] == ["1"]
    for read in (
        stack.get(1, project="other"),
        stack.query.GetSession(pb.GetSessionRequest(session_id="s"), metadata=stack.metadata("other")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await read
        assert raised.value.code() == grpc.StatusCode.NOT_FOUND
    sessions = await stack.query.ListSessions(pb.ListSessionsRequest(), metadata=stack.metadata("other"))
    assert not sessions.sessions
    status = await stack.query.GetStatus(pb.GetStatusRequest(), metadata=stack.metadata("other"))
    assert status.dead_letters == 0
    projection = next(its for its in status.projections if its.projection == "traces")
    assert projection.state in {pb.PROJECTION_STATE_CURRENT, pb.PROJECTION_STATE_BEHIND}
    assert not projection.partitions, "positions are about all projects"


SORTS: list[Any] = [
    pb.TRACE_SORT_START_TIME,
    pb.TRACE_SORT_LATENCY,
    pb.TRACE_SORT_COST,
    pb.TRACE_SORT_TOKENS,
    pb.TRACE_SORT_NAME,
]


async def test_pages_hold_every_trace_once_in_every_order(stack: Stack) -> None:
    """Ties everywhere, and traces that still run."""
    spans = [
        span(n, 1, name=f"t{n % 3}", start_ms=n % 4, end_ms=None if n % 5 == 0 else n % 4 + n % 3,
             attributes={"gen_ai.usage.input_tokens": n % 2, "gen_ai.request.model": "mock-large"})
        for n in range(1, 24)
    ]  # fmt: skip
    token = await stack.export(*spans)
    everything = {t.trace_id for t in (await stack.list(page_size=100, wait_for=waiting(token))).traces}
    assert len(everything) == 23
    for sort in SORTS:
        for order in (pb.SORT_ORDER_DESCENDING, pb.SORT_ORDER_ASCENDING):
            seen: list[str] = []
            page = await stack.list(sort=sort, order=order, page_size=7)
            seen += [t.trace_id for t in page.traces]
            while page.next_page_token:
                page = await stack.list(sort=sort, order=order, page_size=7, page_token=page.next_page_token)
                seen += [t.trace_id for t in page.traces]
            assert len(seen) == 23, (sort, order)
            assert set(seen) == everything
            whole = await stack.list(sort=sort, order=order, page_size=100)
            assert [t.trace_id for t in whole.traces] == seen


FILTERS: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
    ({"names": ["answer"]}, {"names": ["nothing"]}),
    ({"user_ids": ["ada", "bob"]}, {"user_ids": ["bob"]}),
    ({"session_ids": ["s1"]}, {"session_ids": ["s2"]}),
    ({"name_contains": "SWE"}, {"name_contains": "%"}),
    ({"min_level": LEVEL_ERROR}, None),
    ({"has_error": True}, {"has_error": False}),
    ({"min_latency_us": 100_000}, {"min_latency_us": 100_001}),
    ({"max_latency_us": 100_000}, {"max_latency_us": 99_999}),
    ({"min_tokens": 110}, {"min_tokens": 111}),
    ({"max_tokens": 110}, {"max_tokens": 109}),
    ({"min_cost_usd": 0.0001}, {"min_cost_usd": 1.0}),
    ({"max_cost_usd": 1.0}, {"max_cost_usd": 0.0001}),
    ({}, {"environments": ["prod"]}),
    ({}, {"releases": ["1"]}),
    ({}, {"tags": ["x"]}),
]


async def test_filters_keep_what_fits_and_nothing_else(stack: Stack) -> None:
    token = await stack.export(*answer_of_a_question())
    await stack.get(7, wait_for=waiting(token))
    for fitting, other in FILTERS:
        assert len((await stack.list(filter=pb.TraceFilter(**fitting))).traces) == 1, fitting
        if other is not None:
            assert not (await stack.list(filter=pb.TraceFilter(**other))).traces, other


async def test_sessions_are_their_traces(stack: Stack) -> None:
    spans = [span(n, 1, start_ms=n, attributes={"session.id": f"s{n % 2}", "user.id": "ada"}) for n in range(1, 8)]
    token = await stack.export(*spans)
    first = await stack.query.ListSessions(
        pb.ListSessionsRequest(page_size=1, wait_for=waiting(token)), metadata=stack.metadata()
    )
    assert [(s.session_id, s.trace_count, list(s.user_ids)) for s in first.sessions] == [("s1", 4, ["ada"])]
    second = await stack.query.ListSessions(
        pb.ListSessionsRequest(page_size=1, page_token=first.next_page_token), metadata=stack.metadata()
    )
    assert [(s.session_id, s.trace_count) for s in second.sessions] == [("s0", 3)]
    assert not second.next_page_token
    page = await stack.query.GetSession(pb.GetSessionRequest(session_id="s1", page_size=3), metadata=stack.metadata())
    rest = await stack.query.GetSession(
        pb.GetSessionRequest(session_id="s1", page_size=3, page_token=page.next_page_token), metadata=stack.metadata()
    )
    assert [int(t.trace_id, 16) for t in [*page.traces, *rest.traces]] == [1, 3, 5, 7]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ListTracesRequest(page_size=5000), "page_size"),
        (pb.ListTracesRequest(page_token="x"), "page_token"),
        (pb.ListTracesRequest(sort=99), "sort"),  # type: ignore[arg-type]
        (pb.ListTracesRequest(wait_for=pb.WaitFor(position="nonsense")), "wait_for.position"),
        (pb.ListTracesRequest(wait_for=pb.WaitFor(position="lodestream.dreams:0:1")), "wait_for.position"),
        (pb.ListTracesRequest(filter=pb.TraceFilter(min_cost_usd=float("nan"))), "filter.min_cost_usd"),
        (pb.ListTracesRequest(filter=pb.TraceFilter(names=["\0"])), "filter.names"),
    ],
)
async def test_a_request_that_cannot_be_answered_names_the_field(stack: Stack, request_, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stack.query.ListTraces(request_, metadata=stack.metadata(), timeout=15)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (raised.value.details() or "").startswith(f"{field}: ")


async def test_a_wait_that_is_not_met_says_how_far_the_projection_is(stack: Stack) -> None:
    token = await stack.export(span(1, 1))
    topic, partition, offset = token.rsplit(":", 2)
    later = f"{topic}:{partition}:{int(offset) + 1000}"
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stack.list(wait_for=pb.WaitFor(position=later, timeout_ms=300))
    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert later in (raised.value.details() or "")


async def test_the_tail_tells_of_traces_as_they_come(stack: Stack) -> None:
    tail = stack.query.TailTraces(
        pb.TailTracesRequest(filter=pb.TraceFilter(names=["wanted"])), metadata=stack.metadata()
    )
    told: list[str] = []

    async def listen() -> None:
        async for change in tail:
            told.append(change.trace.trace_id[-1])  # noqa: PERF401 - looked at while it grows

    listening = asyncio.create_task(listen())
    number = 0

    async def arrived() -> bool:
        nonlocal number
        number += 1
        await stack.export(span(number, 1, name="wanted" if number % 2 else "other"))
        return len(told) >= 2

    await until(arrived, deadline=20, what="two traces on the tail")
    tail.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    assert all(int(number, 16) % 2 for number in told)
