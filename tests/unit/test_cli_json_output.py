"""Answers as JSON documents for programs."""

import json

from lodestream_proto.v1 import trace_pb2
from lodestream_proto.v1.query_pb2 import GetTraceResponse, TraceFilter
from lodestream_proto.v1.trace_pb2 import Span, TraceSummary

from services.edge.cli.render.json_output import document, json_text, streamed
from tests.unit.cli_spans import at, span, support_question


def test_a_trace_has_all_its_fields_in_plain_types() -> None:
    trace, spans = support_question()
    written = json.loads(json_text(document(GetTraceResponse(trace=trace, spans=spans))))
    assert set(written) == {field.name for field in GetTraceResponse.DESCRIPTOR.fields}
    assert written["freshness"] is None
    assert set(written["trace"]) == {field.name for field in TraceSummary.DESCRIPTOR.fields}
    assert written["trace"]["latency_us"] == 2_000_000
    assert written["trace"]["level"] == "error"
    assert written["trace"]["start_time"] == "2026-09-21T14:13:20Z"
    assert written["trace"]["tags"] == ["web", "refunds"]
    assert written["trace"]["tokens"] == {"input": 800, "output": 214, "total": 1_014}
    assert [each["type"] for each in written["spans"]] == ["agent", "retriever", "tool", "generation"]
    assert written["spans"][3]["critical"] is True


def test_what_is_absent_is_null() -> None:
    written = document(span(1, 0, end=None))
    assert written["end_time"] is None
    assert written["time_to_first_token_us"] is None
    assert written["content"] is None
    assert written["usage"] == {}
    assert written["model"] == ""
    assert document(span(1, 0, time_to_first_token_us=0))["time_to_first_token_us"] == 0


def test_maps_are_objects_and_large_numbers_are_exact() -> None:
    written = json.loads(json_text(document(Span(usage={"output": 2, "input": 2**62}, start_time=at(1)))))
    assert written["usage"] == {"input": 2**62, "output": 2}
    assert written["start_time"] == "2026-09-21T14:13:20.000001Z"


def test_an_enum_from_the_future_is_its_number() -> None:
    assert document(TraceFilter.FromString(b"\x48\x63"))["min_level"] == 99
    assert document(Span(type=trace_pb2.SPAN_TYPE_UNSPECIFIED))["type"] == "unspecified"


def test_a_document_is_harmless_on_a_terminal() -> None:
    hostile = "\x1b[2J\x7f\u202e\u009b\ud800"
    text = json_text({hostile: hostile}, indent=None)
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text) == {hostile: hostile}


def test_pages_make_the_document_that_one_answer_would_be() -> None:
    trace, spans = support_question()
    whole = GetTraceResponse(trace=trace, spans=spans, critical_path_unknown=True)
    pages = [
        GetTraceResponse(trace=trace, spans=spans[:1], next_page_token="more"),
        GetTraceResponse(spans=spans[1:3], next_page_token="more", critical_path_unknown=True),
        GetTraceResponse(spans=spans[3:]),
    ]
    assert "".join(streamed(pages, "spans")) == json_text(document(whole)) + "\n"
    empty = GetTraceResponse(trace=trace)
    assert "".join(streamed([empty], "spans")) == json_text(document(empty)) + "\n"
