"""Spans and traces to draw, built with microseconds since the start of their trace."""

from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1 import trace_pb2
from lodestream_proto.v1.trace_pb2 import Anatomy, Span, Tokens, TraceSummary

BEGIN = 1_790_000_000_000_000  # µs since 1970: 2026-09-21 14:13:20 UTC
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


def at(us: int) -> Timestamp:
    return Timestamp(seconds=(BEGIN + us) // 1_000_000, nanos=(BEGIN + us) % 1_000_000 * 1_000)


def span(number: int, parent: int, start: int = 0, end: int | None = 1_000, **fields) -> Span:
    """A span whose id and parent's id are these numbers; parent 0: none. `end` None: it runs."""
    return Span(
        span_id=f"{number:016x}",
        parent_span_id=f"{parent:016x}" if parent else "",
        start_time=at(start),
        end_time=None if end is None else at(end),
        duration_us=0 if end is None else end - start,
        **{"name": f"span-{number}", **fields},
    )


def support_question() -> tuple[TraceSummary, list[Span]]:
    """A question that was answered although the order service failed."""
    spans = [
        span(1, 0, 0, 2_000_000, name="support-question", type=trace_pb2.SPAN_TYPE_AGENT, critical=True),
        span(2, 1, 0, 400_000, name="search", type=trace_pb2.SPAN_TYPE_RETRIEVER, critical=True),
        span(
            3,
            1,
            500_000,
            800_000,
            name="look-up-order",
            type=trace_pb2.SPAN_TYPE_TOOL,
            level=trace_pb2.LEVEL_ERROR,
            status_message="OrderServiceTimeout: no answer within 300 ms",
        ),
        span(
            4,
            1,
            1_000_000,
            2_000_000,
            name="answer",
            type=trace_pb2.SPAN_TYPE_GENERATION,
            model="mock-large",
            critical=True,
            tokens=Tokens(input=800, output=214, total=1_014),
            cost_usd=0.0123,
        ),
    ]
    trace = TraceSummary(
        trace_id=TRACE_ID,
        name="support-question",
        user_id="ada",
        session_id="chat-42",
        tags=["web", "refunds"],
        environment="demo",
        start_time=at(0),
        end_time=at(2_000_000),
        latency_us=2_000_000,
        root_seen=True,
        level=trace_pb2.LEVEL_ERROR,
        span_count=4,
        error_count=1,
        tokens=Tokens(input=800, output=214, total=1_014),
        cost_usd=0.0123,
        anatomy=Anatomy(retrieval_us=400_000, generation_us=1_000_000, tool_us=300_000, other_us=0, idle_us=300_000),
    )
    return trace, spans
