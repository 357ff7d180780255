"""Beside a tracer provider of opentelemetry-sdk: its spans reach us in whole trees, and whoever sets one keeps it."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
from lodestream import Lodestream, LodestreamSpanProcessor, get_client, is_llm_span, observe, propagate_attributes
from lodestream.testing import Captured, _Sink, captured
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from sdk.tests.collector import Collector
from sdk.tests.programs import Programs

MODEL = "opentelemetry.instrumentation.openai.v1"


class Provider:
    """An opentelemetry-sdk provider that has our processor, and an exporter of its own."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.sdk = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
        self.processor = LodestreamSpanProcessor(**options)
        self.sdk.add_span_processor(self.processor)
        self.sdk.add_span_processor(SimpleSpanProcessor(self.exporter))

    def tracer(self, scope: str = "http") -> Tracer:
        return self.sdk.get_tracer(scope, "1")

    @property
    def exported(self) -> list[str]:
        return [span.name for span in self.exporter.get_finished_spans()]


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.sdk.shutdown()


def parents(told: Captured) -> dict[str, str]:
    names = {span.id: span.name for span in told.spans}
    return {span.name: names.get(span.parent_id, span.parent_id) for span in told.spans}


def test_model_spans_ours_and_what_is_above_them_make_one_tree(provider: Provider) -> None:
    http, model = provider.tracer(), provider.tracer(MODEL)

    @observe
    def answer() -> None:
        with (
            http.start_as_current_span("pool"),
            model.start_as_current_span("chat"),
            http.start_as_current_span("POST"),
        ):
            pass

    with captured() as told, http.start_as_current_span("request"):
        with http.start_as_current_span("middleware"):
            answer()
        with http.start_as_current_span("SELECT"):
            pass
    assert parents(told) == {
        "chat": "pool", "pool": "answer", "answer": "middleware", "middleware": "request", "request": "",
    }  # fmt: skip
    assert provider.exported == ["POST", "chat", "pool", "middleware", "SELECT", "request"]


def test_a_span_arrives_as_it_was(provider: Provider) -> None:
    with captured(environment="staging", release="7") as told:
        link = Link(SpanContext(5, 7, is_remote=True), {"why": "retry"})
        span = provider.tracer(MODEL).start_span(
            "chat", kind=SpanKind.CLIENT, attributes={"gen_ai.request.model": "m", "list": ["a"]}, links=[link]
        )
        span.add_event("chunk", {"n": 1}, timestamp=1_500)
        span.set_status(StatusCode.ERROR, "bad")
        span.end()
    (theirs,) = provider.exporter.get_finished_spans()
    got = told.named("chat")
    assert got.scope == f"{MODEL} 1"
    assert got.attributes == {"gen_ai.request.model": "m", "list": ["a"]}
    assert (got.otlp.start_time_unix_nano, got.otlp.end_time_unix_nano) == (theirs.start_time, theirs.end_time)
    assert (got.otlp.kind, got.otlp.status.message) == (got.otlp.SPAN_KIND_CLIENT, "bad")
    assert (got.otlp.events[0].name, got.otlp.links[0].attributes[0].value.string_value) == ("chunk", "retry")


def test_the_resource_is_the_provider_s_with_our_environment(collector: Collector, tmp_path, provider) -> None:
    client = Lodestream(endpoint=collector.address, secret_key="sk", spool_dir=tmp_path, environment="staging")
    with client.start_as_current_observation(name="ours"):
        provider.tracer(MODEL).start_span("chat").end()
    assert provider.sdk.force_flush(10_000)
    told = {
        span.name: {pair.key: pair.value.string_value for pair in resource.resource.attributes}
        for request in collector.requests
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }
    client.shutdown()
    assert (told["chat"]["service.name"], told["chat"]["lodestream.environment"]) == ("shop", "staging")
    assert told["ours"]["telemetry.sdk.name"] == "lodestream"


def stars(*, data: Any) -> Any:
    return json.loads(json.dumps(data).replace("4111", "****"))


def test_what_is_masked_limited_and_propagated_applies_and_their_span_stays_as_it_is(provider, monkeypatch) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "8")
    with captured(mask=stars) as told, propagate_attributes(user_id="ada"):
        provider.tracer(MODEL).start_span("chat", attributes={"gen_ai.prompt": "card 4111 2222"}).end()
    assert told.named("chat").attributes == {"gen_ai.prompt": "card ***", "user.id": "ada"}
    (theirs,) = provider.exporter.get_finished_spans()
    assert theirs.attributes == {"gen_ai.prompt": "card 4111 2222"}


def test_a_share_of_traces_is_kept_whole_and_theirs_is_not_touched(provider: Provider) -> None:
    with captured(sample_rate=0.5) as told:
        for _ in range(60):
            with (
                provider.tracer(MODEL).start_as_current_span("chat"),
                get_client().start_as_current_observation(name="o"),
                provider.tracer(MODEL).start_as_current_span("inner"),
            ):
                get_client().start_observation(name="leaf").end()
    by_trace: dict[str, set[str]] = {}
    for span in told.spans:
        by_trace.setdefault(span.trace_id, set()).add(span.name)
    assert 10 < len(by_trace) < 50
    assert all(names == {"chat", "o", "inner", "leaf"} for names in by_trace.values())
    assert len(provider.exported) == 120


def test_a_filter_of_the_program_decides_and_leaves_no_holes() -> None:
    asked = []

    def only_models(span: ReadableSpan) -> bool:
        asked.append(span.name)
        return span.name.startswith("chat")

    provider = Provider(should_export_span=only_models)
    http = provider.tracer()
    with captured() as told, http.start_as_current_span("request"):
        gone = http.start_span("gone")
        context = set_span_in_context(gone)
        gone.end()
        http.start_span("chat later", context).end()
        with http.start_as_current_span("chat"):
            pass
    provider.sdk.shutdown()
    assert parents(told) == {"chat later": "request", "chat": "request", "request": ""}
    assert "gone" in asked


def test_a_client_may_bring_the_filter() -> None:
    provider = Provider()
    with captured(should_export_span=lambda span: is_llm_span(span) or span.name == "wanted") as told:
        for scope, name in (("http", "wanted"), ("http", "other"), (MODEL, "chat")):
            provider.tracer(scope).start_span(name).end()
    provider.sdk.shutdown()
    assert [span.name for span in told.spans] == ["wanted", "chat"]


def test_a_filter_that_raises_costs_a_span_and_nothing_else(caplog) -> None:
    provider = Provider(should_export_span=lambda span: 1 / 0)
    with captured() as told, provider.tracer().start_as_current_span("request"):
        get_client().start_observation(name="ours").end()
    provider.sdk.shutdown()
    assert told.spans[0].name == "ours"
    assert "ZeroDivisionError" in caplog.text


def test_a_remote_parent_stays_the_parent(provider: Provider) -> None:
    remote = NonRecordingSpan(SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1)))
    with captured() as told:
        provider.tracer(MODEL).start_span("chat", set_span_in_context(remote)).end()
    assert told.named("chat").parent_id == f"{2:016x}"
    assert told.named("chat").otlp.flags & 0x200


def test_spans_go_to_the_client_that_is_meant(provider: Provider, caplog) -> None:
    sinks = {}
    for name in "ab":
        client = Lodestream(public_key=f"pk-{name}", secret_key=f"sk-{name}", endpoint="127.0.0.1:1")
        sinks[name] = Captured()
        client._recorder.sink = _Sink(sinks[name])
        with client.as_current(), provider.tracer(MODEL).start_as_current_span(f"chat {name}") as span:
            pass
        provider.tracer(MODEL).start_span(f"below {name}", set_span_in_context(span)).end()
    provider.tracer(MODEL).start_span("whose?").end()
    assert {name: [span.name for span in sink.spans] for name, sink in sinks.items()} == {
        "a": ["chat a", "below a"],
        "b": ["chat b"],
    }
    assert "several projects" in caplog.text


def test_spans_that_never_end_are_forgotten(provider: Provider, monkeypatch) -> None:
    monkeypatch.setattr("lodestream._opentelemetry.span_processor._MAX_OPEN", 10)
    with captured():
        for _ in range(50):
            provider.tracer().start_span("open")
    assert len(provider.processor._open) == 10


# --- The process's own provider ---------------------------------------------------------------------------------------

SETUP = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
def set_theirs():
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    assert trace.get_tracer_provider() is provider
early = trace.get_tracer("openinference.early")
def trace_some():
    with early.start_as_current_span("agent"):
        work("ours")
        with trace.get_tracer("http").start_as_current_span("tool"):
            trace.get_tracer("openinference.x").start_span("chat").end()
    print(*sorted(span.name for span in exporter.get_finished_spans()))
"""


def program(body: str) -> str:
    return SETUP + textwrap.dedent(body)


def test_a_provider_that_was_there_first_stays_and_its_model_spans_reach_us(programs, collector) -> None:
    out = programs.run(program("set_theirs(); get_client(); trace_some()"))
    assert out.split() == ["agent", "chat", "tool"]
    assert collector.kept == {"agent": 1, "ours": 1, "tool": 1, "chat": 1}


def test_a_provider_that_is_set_after_ours_is_taken(programs: Programs, collector: Collector) -> None:
    out = programs.run(
        program("""
        client = get_client()
        early.start_span("before").end()
        ours = trace.get_tracer("openinference.ours")
        set_theirs()
        ours.start_span("handed over").end()
        trace_some()
        """)
    )
    assert out.split() == ["agent", "chat", "handed", "over", "tool"]
    assert collector.kept == {"before": 1, "handed over": 1, "agent": 1, "ours": 1, "tool": 1, "chat": 1}


def test_only_the_first_of_the_program_s_providers_is_taken(programs: Programs) -> None:
    out = programs.run(
        program("""
        import logging
        get_client()
        set_theirs()
        logging.getLogger("opentelemetry.trace").addHandler(logging.NullHandler())
        trace.set_tracer_provider(TracerProvider())
        trace_some()
        """)
    )
    assert out.split() == ["agent", "chat", "tool"]


def test_a_client_may_stay_out_of_what_the_process_traces(programs: Programs, collector: Collector) -> None:
    out = programs.run(
        program("""
        get_client()
        early.start_span("nobody's").end()
        set_theirs()
        trace_some()
        """),
        LODESTREAM_GLOBAL_TRACING="false",
    )
    assert out.split() == ["agent", "chat", "tool"]
    assert collector.kept == {"ours": 1}


def test_a_processor_of_the_program_s_own_takes_the_place_of_the_one_that_we_add(programs, collector) -> None:
    programs.run(
        program("""
        from lodestream import LodestreamSpanProcessor
        set_theirs()
        get_client()
        trace.get_tracer_provider().add_span_processor(LodestreamSpanProcessor(should_export_span=lambda span: True))
        trace.get_tracer("http").start_span("once").end()
        trace.get_tracer("openinference.x").start_span("chat").end()
        """)
    )
    assert collector.delivered == {"once": 1, "chat": 1}
