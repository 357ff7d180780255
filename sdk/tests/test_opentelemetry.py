"""OpenTelemetry's API: other instrumentation nests in ours and ours in it, and headers cross services."""

import pytest
from lodestream import get_client, observe
from lodestream.testing import captured
from opentelemetry import context, propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanKind, Status, StatusCode


def test_the_process_s_tracers_are_ours_and_nest_both_ways():
    tracer = trace.get_tracer("a.library", "1.2")

    @observe
    def inner():
        return 1

    with (
        captured() as told,
        get_client().start_as_current_observation(name="outer"),
        tracer.start_as_current_span("theirs", kind=SpanKind.CLIENT, attributes={"n": 1, "none": None}),
    ):
        inner()
    outer, theirs, ours = told.named("outer"), told.named("theirs"), told.named("inner")
    assert (theirs.parent_id, ours.parent_id) == (outer.id, theirs.id)
    assert theirs.otlp.kind == theirs.otlp.SPAN_KIND_CLIENT
    assert theirs.attributes == {"n": 1}


def test_tracers_that_were_handed_out_before_follow_the_last_client():
    tracer = trace.get_tracer("early")
    with captured() as first, tracer.start_as_current_span("one"):
        pass
    with captured() as second, tracer.start_as_current_span("two"):
        pass
    assert ([span.name for span in first.spans], [span.name for span in second.spans]) == (["one"], ["two"])


def test_beside_another_provider_spans_nest_through_the_context():
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    theirs = provider.get_tracer("theirs")
    with (
        captured() as told,
        theirs.start_as_current_span("request"),
        get_client().start_as_current_observation(name="ours"),
        theirs.start_as_current_span("query"),
    ):
        get_client().update_current_span(metadata={"x": 1}, name="renamed query")
    spans = {span.name: span for span in exporter.get_finished_spans()}
    ours = told.named("ours")
    request, query = spans["request"], spans["renamed query"]
    assert request.context is not None
    assert query.parent is not None
    assert query.attributes is not None
    assert ours.parent_id == f"{request.context.span_id:016x}"
    assert ours.trace_id == f"{request.context.trace_id:032x}"
    assert f"{query.parent.span_id:016x}" == ours.id
    assert query.attributes["lodestream.observation.metadata.x"] == "1"
    provider.shutdown()


def test_w3c_headers_carry_the_trace_to_another_service_and_back():
    with captured() as told:
        headers: dict[str, str] = {}
        with get_client().start_as_current_observation(name="caller") as caller:
            propagate.inject(headers)
        token = context.attach(propagate.extract({**headers, "tracestate": "vendor=1"}))
        with get_client().start_as_current_observation(name="called"):
            onward: dict[str, str] = {}
            propagate.inject(onward)
        context.detach(token)
    called = told.named("called")
    assert headers["traceparent"] == f"00-{caller.trace_id}-{caller.id}-01"
    assert (called.trace_id, called.parent_id) == (caller.trace_id, caller.id)
    assert called.otlp.trace_state == "vendor=1"
    assert onward["tracestate"] == "vendor=1"
    assert called.otlp.flags & 0x300 == 0x300  # the parent is known to be remote


def test_a_caller_s_decision_not_to_sample_holds():
    with captured() as told:
        token = context.attach(propagate.extract({"traceparent": f"00-{'1' * 32}-{'2' * 16}-00"}))
        with get_client().start_as_current_observation(name="called"):
            onward: dict[str, str] = {}
            propagate.inject(onward)
        context.detach(token)
    assert told.spans == []
    assert onward["traceparent"].startswith(f"00-{'1' * 32}-")
    assert onward["traceparent"].endswith("-00")


def test_with_tracing_off_headers_pass_through_unchanged():
    header = f"00-{'1' * 32}-{'2' * 16}-01"
    with captured(tracing_enabled=False):
        token = context.attach(propagate.extract({"traceparent": header}))
        with get_client().start_as_current_observation(name="called"):
            onward: dict[str, str] = {}
            propagate.inject(onward)
        context.detach(token)
    assert onward["traceparent"] == header


def test_events_links_status_and_times_are_kept():
    other = trace.SpanContext(5, 7, is_remote=True)
    with captured() as told:
        tracer = get_client().tracer_provider.get_tracer("lib", "2", attributes={"a": "b"})
        span = tracer.start_span("s", links=[Link(other, {"why": "retry"})], start_time=1_000)
        span.add_event("chunk", {"n": 1}, timestamp=1_500)
        span.set_status(Status(StatusCode.ERROR, "bad"))
        span.set_status(StatusCode.OK)
        span.set_status(StatusCode.ERROR, "too late")
        span.end(end_time=2_000)
    got = told.named("s").otlp
    assert (got.start_time_unix_nano, got.end_time_unix_nano) == (1_000, 2_000)
    assert (got.events[0].name, got.events[0].time_unix_nano) == ("chunk", 1_500)
    assert int.from_bytes(got.links[0].span_id, "big") == 7
    assert got.status.code == got.status.STATUS_CODE_OK


@pytest.mark.parametrize("record", [True, False])
def test_a_tracer_records_exceptions_as_it_is_told(record):
    def raise_within_a_span():
        tracer = get_client().tracer_provider.get_tracer("lib")
        with tracer.start_as_current_span("s", record_exception=record, set_status_on_exception=record):
            raise ValueError("boom")

    with captured() as told, pytest.raises(ValueError, match="boom"):
        raise_within_a_span()
    assert bool(told.named("s").otlp.events) is record
    assert bool(told.named("s").otlp.status.code) is record


def test_limits_are_counted_not_exceeded():
    with captured() as told, get_client().start_as_current_observation(name="big") as span:
        for number in range(1_200):
            span.set_attribute(f"a{number}", number)
            span.add_event("e")
    got = told.named("big").otlp
    assert (len(got.attributes), got.dropped_attributes_count) == (1_000, 201)
    assert (len(got.events), got.dropped_events_count) == (1_000, 200)


def test_attribute_values_are_taken_as_they_are_now():
    values = ["a"]
    with captured() as told, get_client().start_as_current_observation(name="s") as span:
        span.set_attribute("list", values)
        values.append("b")
    assert told.named("s").attributes["list"] == ["a"]
