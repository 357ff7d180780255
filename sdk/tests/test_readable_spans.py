"""Observations can be read like spans of opentelemetry-sdk, and its processors and exporters plug into our provider."""

import io
import json
from typing import Any

import pytest
from lodestream import get_client, observe
from lodestream._settings import resolve
from lodestream.testing import captured
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from sdk.tests.programs import Programs

ELSEWHERE = SpanContext(5, 7, is_remote=True, trace_flags=TraceFlags(1))
READ = ("name", "kind", "attributes", "end_time", "dropped_attributes", "dropped_events", "dropped_links")


def work(tracer: trace.Tracer) -> Any:
    """A span with all that a span can have; it has ended."""
    with tracer.start_as_current_span("outer"):
        span = tracer.start_span(
            "work", kind=SpanKind.CLIENT, attributes={"n": 1, "list": ["a"]}, links=[Link(ELSEWHERE, {"why": "retry"})]
        )
        span.set_attribute("text", "x")
        span.add_event("chunk", {"n": 1}, timestamp=1_500)
        span.set_status(Status(StatusCode.ERROR, "bad"))
        span.end(end_time=2_000_000_000_000_000_000)
    return span


def test_a_span_reads_as_one_of_the_sdk() -> None:
    theirs: Any = work(TracerProvider(shutdown_on_exit=False).get_tracer("lib", "2", "https://schema", {"s": 1}))
    with captured():
        ours: Any = work(get_client().tracer_provider.get_tracer("lib", "2", "https://schema", {"s": 1}))
    for name in READ:
        assert getattr(ours, name) == getattr(theirs, name), name
    assert (ours.status.status_code, ours.status.description) == (StatusCode.ERROR, "bad")
    assert 0 < ours.start_time < ours.end_time
    assert ours.context == ours.get_span_context()
    assert (ours.parent.trace_id, ours.parent.is_remote) == (ours.context.trace_id, False)
    assert ours.instrumentation_scope == theirs.instrumentation_scope
    assert isinstance(ours.resource, Resource)
    (event,), (link,) = ours.events, ours.links
    assert (event.name, event.timestamp, dict(event.attributes)) == ("chunk", 1_500, {"n": 1})
    assert (link.context, dict(link.attributes)) == (ELSEWHERE, {"why": "retry"})
    told, expected = json.loads(ours.to_json()), json.loads(theirs.to_json())
    for different in ("context", "parent_id", "start_time", "resource"):
        assert type(told.pop(different)) is type(expected.pop(different))
    assert told == expected


def test_a_span_that_runs_reads_too_and_cannot_be_changed_through_what_is_read() -> None:
    with captured(), get_client().start_as_current_observation(name="runs") as span:
        assert (span.end_time, span.parent, span.kind) == (None, None, SpanKind.INTERNAL)
        assert span.attributes["lodestream.observation.type"] == "span"
        with pytest.raises(TypeError):
            span.attributes["x"] = 1  # type: ignore[index]


def test_what_does_not_keep_anything_reads_too() -> None:
    with captured(tracing_enabled=False), get_client().start_as_current_observation(name="off") as span:
        json.loads(span.to_json())
        assert span.is_recording() is False
        assert span.kind is SpanKind.INTERNAL


@pytest.mark.parametrize("record", [True, False])
def test_an_exception_that_leaves_a_library_s_span_is_told_as_the_sdk_tells_it(record) -> None:
    def raised(tracer: trace.Tracer) -> Any:
        span = tracer.start_span("s", record_exception=record, set_status_on_exception=record)
        with pytest.raises(ValueError, match="boom"), span:
            raise ValueError("boom")
        return span

    theirs = raised(TracerProvider(shutdown_on_exit=False).get_tracer("lib"))
    with captured():
        ours = raised(get_client().tracer_provider.get_tracer("lib"))
    assert (ours.status.status_code, ours.status.description) == (theirs.status.status_code, theirs.status.description)
    assert ours.attributes == theirs.attributes
    assert [dict(event.attributes) | {"exception.stacktrace": ""} for event in ours.events] == [
        dict(event.attributes) | {"exception.stacktrace": ""} for event in theirs.events
    ]


def test_foreign_exporters_get_observations_and_spans_as_they_are_sent_to_us() -> None:
    exporter, console = InMemorySpanExporter(), io.StringIO()
    started = []

    class Starts(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            started.append((span.name, dict(span.attributes), parent_context is not None))
            span.set_attribute("by.processor", True)

    @observe
    def answer(question: str) -> str:
        work(trace.get_tracer("lib"))
        return question.upper()

    with captured() as told:
        provider = get_client().tracer_provider
        for processor in (
            Starts(),
            SimpleSpanProcessor(exporter),
            SimpleSpanProcessor(ConsoleSpanExporter(out=console)),
        ):
            provider.add_span_processor(processor)
        answer("q")
        assert provider.force_flush(1_000)
    finished = exporter.get_finished_spans()
    assert all(isinstance(span, ReadableSpan) for span in finished)
    assert [span.name for span in finished] == ["work", "outer", "answer"] == [span.name for span in told.spans]
    encoded = {
        span.span_id: span
        for resource in encode_spans(finished).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }
    for sent in told.spans:
        exported = encoded[sent.otlp.span_id]
        exported.flags |= 1  # the SDK's exporter does not tell whether a span was sampled
        if not exported.status.code:
            exported.ClearField("status")
        for link in exported.links:
            link.flags |= 1
        assert exported == sent.otlp
        assert sent.attributes["by.processor"] is True
    assert '"name": "answer"' in console.getvalue()
    assert [name for name, _, _ in started] == ["answer", "outer", "work"]
    assert started[0][1]["lodestream.observation.input"] == '{"question":"q"}'
    assert started[2][1] == {"n": 1, "list": ("a",)}
    assert all(has_context for _, _, has_context in started)


def test_what_a_processor_raises_stays_in_here(caplog) -> None:
    class Broken(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise RuntimeError("at the start")

        def on_end(self, span: Any) -> None:
            raise RuntimeError("at the end")

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            raise RuntimeError("flushing")

    exporter = InMemorySpanExporter()
    with captured() as told:
        provider = get_client().tracer_provider
        provider.add_span_processor(Broken())
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        get_client().start_observation(name="x").end()
        assert provider.force_flush(1_000) is False
        provider.shutdown()
    assert [span.name for span in told.spans] == ["x"] == [span.name for span in exporter.get_finished_spans()]
    assert "Broken.on_start" in caplog.text
    assert "Broken.on_end" in caplog.text


def test_processors_see_what_is_masked_and_nothing_of_what_is_not_sampled() -> None:
    exporter = InMemorySpanExporter()
    with captured(mask=lambda *, data: "***", sample_rate=0.5):
        client = get_client()
        client.tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
        for low in ("0" * 16, "f" * 16):
            client.start_observation(name=low, input="secret", trace_context={"trace_id": "1" * 16 + low}).end()
    (span,) = exporter.get_finished_spans()
    assert span.name == "0" * 16
    assert "secret" not in span.to_json()


def test_a_provider_tells_what_it_is() -> None:
    with captured(sample_rate=0.25, service_name="shop"):
        provider = get_client().tracer_provider
        assert provider.resource.attributes["service.name"] == "shop"
        assert provider.sampler.get_description().startswith("ParentBased{root:TraceIdRatioBased{0.25}")
        assert provider.span_limits.max_span_attributes == 1_000


def test_processors_are_shut_down_with_the_process(programs: Programs) -> None:
    out = programs.run(
        """
        class Processor:  # as opentelemetry-sdk's, without it
            def on_start(self, span, parent_context=None): pass
            def on_end(self, span): print("ended", span.name, span.resource.attributes["telemetry.sdk.name"])
            def shutdown(self): print("shut down")
            def force_flush(self, timeout_millis=30000): return True

        from opentelemetry import trace
        get_client()
        trace.get_tracer_provider().add_span_processor(Processor())
        work("x")
        print("opentelemetry.sdk" in sys.modules, flush=True)
        if child := os.fork():
            os.waitpid(child, 0)
        """
    )
    assert out.split("\n")[:4] == ["ended x lodestream", "False", "shut down", "shut down"]


# --- OpenTelemetry's variables ----------------------------------------------------------------------------------------


def settings(**environ: str) -> Any:
    return resolve({"secret_key": "k"}, environ)


@pytest.mark.parametrize(
    ("sampler", "argument", "rate", "parent_based"),
    [
        ("always_on", "", 1.0, False),
        ("always_off", "", 0.0, False),
        ("traceidratio", "0.25", 0.25, False),
        ("parentbased_traceidratio", "0.25", 0.25, True),
        ("parentbased_always_off", "", 0.0, True),
        ("", "", 1.0, True),
        ("jaeger_remote", "", 1.0, True),
        ("traceidratio", "many", 1.0, False),
    ],
)
def test_the_sampler_of_the_environment(sampler, argument, rate, parent_based) -> None:
    got = settings(OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=argument)
    assert (got.sample_rate, got.parent_based) == (rate, parent_based)


def test_our_own_sample_rate_wins_over_opentelemetry_s() -> None:
    got = settings(OTEL_TRACES_SAMPLER="always_off", LODESTREAM_SAMPLE_RATE="0.5")
    assert got.sample_rate == 0.5


def test_a_sampler_that_is_not_parent_based_decides_by_itself(monkeypatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    parent = trace.NonRecordingSpan(SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(0)))
    with captured() as told:
        get_client().tracer_provider.get_tracer("lib").start_span("s", trace.set_span_in_context(parent)).end()
    assert told.named("s").parent_id == f"{2:016x}"


def test_span_limits_of_the_environment(monkeypatch, caplog) -> None:
    for name, value in {
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "2",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "3",
        "OTEL_SPAN_EVENT_COUNT_LIMIT": "1",
        "OTEL_SPAN_LINK_COUNT_LIMIT": "1",
        "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "1",
        "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": "lots",
    }.items():
        monkeypatch.setenv(name, value)
    with captured() as told:
        links = [Link(ELSEWHERE, {"a": "12345"}), Link(ELSEWHERE)]
        span = get_client().tracer_provider.get_tracer("lib").start_span("s", attributes={"a": "12345"}, links=links)
        span.set_attributes({"b": ["12345"], "c": 1})
        span.add_event("e", {"a": "12345", "b": 1})
        span.add_event("e")
        span.end()
    got = told.named("s")
    assert got.attributes == {"a": "123", "b": ["123"]}
    (event,), (link,) = got.otlp.events, got.otlp.links
    assert (event.attributes[0].value.string_value, event.dropped_attributes_count) == ("123", 1)
    assert link.attributes[0].value.string_value == "123"
    assert (got.otlp.dropped_attributes_count, got.otlp.dropped_events_count, got.otlp.dropped_links_count) == (1, 1, 1)
    assert "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT" in caplog.text


def test_the_propagators_of_the_environment(programs: Programs) -> None:
    out = programs.run(
        """
        from opentelemetry import propagate
        with get_client().start_as_current_observation(name="caller"):
            headers = {}
            propagate.inject(headers)
        print(*headers)
        """,
        OTEL_PROPAGATORS="none",
    )
    assert out.split() == []
