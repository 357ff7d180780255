"""The whole picture of a trace, as it stands in a terminal."""

from datetime import UTC

from hypothesis import given, settings
from hypothesis import strategies as st
from lodestream_proto.v1 import trace_pb2
from lodestream_proto.v1.query_pb2 import FoldedSpans
from lodestream_proto.v1.trace_pb2 import Span, SpanContent, SpanEvent, TraceSummary

from services.edge.cli.render.trace import contents, draw_trace
from tests.unit.cli_spans import at, span, support_question

HOSTILE = "\x1b[31mred\u202e\x07"


def picture(trace: TraceSummary, spans: list[Span], width: int) -> list[str]:
    return [line.plain.rstrip() for line in draw_trace(trace, spans, width=width, zone=UTC)]


def test_a_trace_at_80_columns() -> None:
    assert picture(*support_question(), 80) == [
        "support-question  0af7651916cd43dd8448eb211c80319c",
        "  error · 2.00 s · 4 spans · 800→214 tokens · $0.0123 · 2026-09-21 14:13:20.000",
        "  user ada · session chat-42 · environment demo · tags web, refunds",
        "",
        "span              type     time   tokens     cost  0             1.00 s",
        "support-question  agent  2.00 s                    █████████████████████████████",
        "├─ search         retr   400 ms                    ██████",
        "├─ look-up-order  tool   300 ms                           ━━━━━",
        "└─ answer         llm    1.00 s  800→214  $0.0123                ▐██████████████",
        "█ critical path   ━ not on it",
        "error   look-up-order: OrderServiceTimeout: no answer within 300 ms",
        "",
        "where the time went  2.00 s",
        "████████████████▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▒▒▒▒▒▒▒▒▒▒▒▒············",
        "█ retrieval 400 ms 20 %   ▓ generation 1.00 s 50 %   ▒ tool 300 ms 15 %",
        "· idle 300 ms 15 %",
    ]


def test_a_narrow_terminal_shows_names_times_and_bars() -> None:
    narrow = picture(*support_question(), 50)
    assert all(len(line) <= 50 for line in narrow)
    assert next(line for line in narrow if line.startswith("span")).split()[:2] == ["span", "time"]


def test_a_span_that_runs_and_a_root_that_has_not_come() -> None:
    trace = TraceSummary(trace_id="ab" * 16, start_time=at(0), span_count=2)
    drawn = picture(trace, [span(2, 1, 0, None), span(3, 2, 500, 1_000)], 80)
    assert drawn[0] == f"(no name yet)  {'ab' * 16}"
    assert "running" in drawn[1]
    assert any("the root span has not arrived yet" in line for line in drawn)
    assert any(line.startswith("┄ span-2") and "running" in line for line in drawn)
    assert any("┄ its parent is missing" in line for line in drawn)


def test_a_trace_without_spans_is_still_a_picture() -> None:
    assert picture(TraceSummary(trace_id="ab" * 16), [], 80)[-1] == "where the time went  0 µs"


def test_only_what_is_beside_the_point_is_dim() -> None:
    """A style that runs on past its piece would dim or colour names."""
    trace, spans = support_question()
    lines = draw_trace(trace, spans, width=80, zone=UTC)
    answer = next(line for line in lines if line.plain.startswith("└─ answer"))
    dim = [answer.plain[mark.start : mark.end] for mark in answer.spans if mark.style == "dim"]
    assert dim == ["└─ "]
    assert answer.style == ""


def test_nothing_hostile_reaches_the_terminal() -> None:
    hostile = span(
        1,
        0,
        name=HOSTILE,
        model=HOSTILE,
        provider=HOSTILE,
        prompt_name=HOSTILE,
        status_message=HOSTILE,
        usage={HOSTILE: 1},
        content=SpanContent(
            input=HOSTILE,
            output=f'{{"{HOSTILE}": "\\u001b"}}',
            metadata_json=f'["{HOSTILE}"]',
            events=[SpanEvent(name=HOSTILE, attributes_json=HOSTILE)],
        ),
    )
    trace = TraceSummary(name=HOSTILE, user_id=HOSTILE, session_id=HOSTILE, tags=[HOSTILE], release=HOSTILE)
    lines = [*draw_trace(trace, [hostile], width=100, zone=UTC), *contents([hostile], width=100, most_lines=None)]
    assert all(line.plain.isprintable() for line in lines)
    assert any("␛[31mred" in line.plain for line in lines)


@settings(deadline=None)
@given(st.text(max_size=60), st.text(max_size=600), st.integers(40, 160))
def test_no_line_is_wider_than_the_terminal(name: str, message: str, width: int) -> None:
    spans = [
        span(1, 0, name=name, model=name),
        span(2, 1, name=name, status_message=message, content=SpanContent(input=message, output=name)),
    ]
    trace = TraceSummary(name=name, user_id=name, tags=[name, message], latency_us=1_000)
    lines = [*draw_trace(trace, spans, width=width, zone=UTC), *contents(spans, width=width, most_lines=3)]
    assert max(line.cell_len for line in lines) <= width


def test_content_is_shown_span_by_span() -> None:
    spans = [
        span(1, 0, name="quiet"),
        span(
            2,
            1,
            name="answer",
            type=trace_pb2.SPAN_TYPE_GENERATION,
            model="mock-large",
            time_to_first_token_us=210_000,
            usage={"input": 800, "output": 214},
            content=SpanContent(input='[{"role": "user"}]', output="line one\nline two", metadata_json="{}"),
        ),
    ]
    assert [line.plain for line in contents(spans, width=60, most_lines=4)] == [
        "",
        "llm answer  0000000000000002",
        "  model mock-large · first token after 210 ms · input 800 ·…",
        "  input",
        "    [",
        "      {",
        '        "role": "user"',
        "      }",
        "    … 1 more lines (--full shows all)",
        "  output",
        "    line one",
        "    line two",
    ]


def test_what_is_folded_is_a_line_with_how_to_unfold_it() -> None:
    trace, spans = support_question()
    folded = [
        FoldedSpans(
            parent_span_id=spans[1].span_id, name="embed", type=trace_pb2.SPAN_TYPE_EMBEDDING, span_count=1_204,
            descendant_count=0, duration_us=12_300_000, start_time=at(0), end_time=at(400_000),
        ),
        FoldedSpans(
            parent_span_id=spans[0].span_id, span_count=1, descendant_count=30, error_count=2, start_time=at(900_000),
        ),
    ]  # fmt: skip
    lines = [line.plain.rstrip() for line in draw_trace(trace, spans, folded, width=100, zone=UTC)]
    assert lines[6].startswith("├─ search ")
    assert lines[7].startswith("│  └─ … 1,204 more embed spans, 12.3 s in total ")
    assert lines[10].startswith("└─ … 1 more span, 30 below, 2 errors ")
    assert "1,235 of 1,239 spans are folded" in lines
    assert any(f"--span {spans[1].span_id}: below the span with most of them" in line for line in lines)
    assert not any("its parent is missing" in line for line in lines)
