"""Spans of each convention, as its instrumentations write them, and what is understood of them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lodestream_proto.v1 import trace_pb2 as pb
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from shared.spans.blocks import ReceivedSpan, sources_of
from shared.spans.dialects import SpanColumns, read_columns, read_content


def value_of(value: Any) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case list():
            return AnyValue(array_value=ArrayValue(values=[value_of(item) for item in value]))
        case dict():
            return AnyValue(kvlist_value=KeyValueList(values=key_values(value)))
        case None:
            return AnyValue()
    return AnyValue(string_value=value)


def key_values(attributes: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value_of(value)) for key, value in attributes.items()]


def source(
    attributes: dict[str, Any],
    *,
    resource: dict[str, Any] | None = None,
    scope: str = "",
    sdk: tuple[str, str] = ("", ""),
    **fields: Any,
) -> ReceivedSpan:
    """A span as it stands in a block."""
    span = Span(name="span", start_time_unix_nano=10**18, attributes=key_values(attributes), **fields)
    request = ExportTraceServiceRequest(
        resource_spans=[
            ResourceSpans(
                resource=Resource(attributes=key_values(resource or {})),
                scope_spans=[ScopeSpans(scope=InstrumentationScope(name=scope), spans=[span])],
            )
        ]
    )
    return next(sources_of(request, sdk_name=sdk[0], sdk_version=sdk[1]))


def understood(attributes: dict[str, Any], **fields: Any) -> SpanColumns:
    return read_columns(source(attributes, **fields))


def test_our_own_sdk() -> None:
    told = understood(
        {
            "lodestream.observation.type": "generation",
            "lodestream.observation.input": '{"question":"why?"}',
            "lodestream.observation.output": "because",
            "lodestream.observation.model.name": "mock-large",
            "lodestream.observation.usage_details": '{"input": 7, "output": 3}',
            "lodestream.observation.cost_details": '{"input": 0.5, "output": 0.25}',
            "lodestream.observation.completion_start_time": str(10**18 + 5_000_000),
            "lodestream.observation.prompt.name": "answer",
            "lodestream.observation.prompt.version": 4,
            "lodestream.observation.level": "WARNING",
            "lodestream.trace.name": "chat",
            "lodestream.trace.tags": ["b", "a"],
            "user.id": "ada",
            "session.id": "s1",
            "lodestream.internal.as_root": True,
        },
        resource={"lodestream.environment": "prod", "lodestream.release": "1.2", "service.version": "9"},
        sdk=("lodestream-python", "0.1.0"),
    )
    assert (told.type, told.level, told.model) == (pb.SPAN_TYPE_GENERATION, pb.LEVEL_WARNING, "mock-large")
    assert (told.usage, told.cost) == ({"input": 7, "output": 3}, {"input": 5 * 10**11, "output": 25 * 10**10})
    assert told.first_token_us == 5_000
    assert (told.prompt_name, told.prompt_version) == ("answer", 4)
    assert (told.trace_name, told.tags, told.user_id, told.session_id) == ("chat", ["a", "b"], "ada", "s1")
    assert (told.environment, told.release, told.version) == ("prod", "1.2", "9")
    assert (told.sdk, told.as_root) == ("lodestream-python/0.1.0", True)
    assert (told.input_preview, told.output_preview) == ('{"question":"why?"}', "because")


def test_opentelemetry_genai_as_it_is_now() -> None:
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.request.temperature": 0.2,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.cache_read.input_tokens": 60,
        "gen_ai.usage.output_tokens": 50,
        "gen_ai.usage.reasoning.output_tokens": 20,
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.conversation.id": "c1",
        "gen_ai.input.messages": '[{"role":"user","parts":[]}]',
        "gen_ai.system_instructions": [{"type": "text", "content": "be kind"}],
        "gen_ai.output.messages": [{"role": "assistant"}],
    }
    told = understood(attributes)
    assert (told.type, told.model, told.provider) == (pb.SPAN_TYPE_GENERATION, "gpt-4o-2024-08-06", "openai")
    assert told.usage == {"input": 40, "input_cached_tokens": 60, "output": 30, "output_reasoning_tokens": 20}
    assert (told.first_token_us, told.session_id) == (250_000, "c1")
    cold = read_content(source(attributes))
    assert cold.input is not None
    assert [message["role"] for message in json.loads(cold.input)] == ["system", "user"]
    assert cold.output == '[{"role":"assistant"}]'
    assert cold.model_parameters == {"temperature": 0.2}
    assert cold.attributes == {}


def test_opentelemetry_genai_1_36_with_messages_as_events() -> None:
    events = [
        Span.Event(name="gen_ai.user.message", attributes=key_values({"content": "why?"})),
        Span.Event(name="gen_ai.choice", attributes=key_values({"message": {"content": "because"}})),
    ]
    attributes = {"gen_ai.system": "anthropic", "gen_ai.usage.prompt_tokens": 5, "gen_ai.usage.completion_tokens": 2}
    told = understood({**attributes, "gen_ai.request.model": "claude-sonnet-4"}, events=events)
    assert (told.type, told.provider) == (pb.SPAN_TYPE_GENERATION, "anthropic")
    assert told.usage == {"input": 5, "output": 2}
    cold = read_content(source(attributes, events=events))
    assert cold.input == '[{"role":"user","content":"why?"}]'
    assert cold.output == '[{"role":"choice","message":{"content":"because"}}]'


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"gen_ai.operation.name": "execute_tool"}, pb.SPAN_TYPE_TOOL),
        ({"gen_ai.operation.name": "embeddings"}, pb.SPAN_TYPE_EMBEDDING),
        ({"gen_ai.operation.name": "retrieval"}, pb.SPAN_TYPE_RETRIEVER),
        ({"gen_ai.operation.name": "invoke_agent"}, pb.SPAN_TYPE_AGENT),
        ({"gen_ai.tool.call.id": "1"}, pb.SPAN_TYPE_TOOL),
        ({"traceloop.span.kind": "workflow"}, pb.SPAN_TYPE_CHAIN),
        ({"openinference.span.kind": "RERANKER", "gen_ai.operation.name": "chat"}, pb.SPAN_TYPE_RETRIEVER),
        ({"langfuse.observation.type": "tool", "openinference.span.kind": "LLM"}, pb.SPAN_TYPE_TOOL),
        ({"langfuse.observation.type": "nonsense", "openinference.span.kind": "LLM"}, pb.SPAN_TYPE_GENERATION),
        ({"http.method": "GET"}, None),
    ],
)
def test_the_first_dialect_that_answers_gives_the_type(attributes: dict[str, Any], expected: int | None) -> None:
    assert understood(attributes).type == expected


def test_an_agents_span_does_not_count_the_tokens_of_its_calls_again() -> None:
    usage = {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 50}
    assert understood({"gen_ai.operation.name": "invoke_agent", **usage}).usage is None
    assert understood({"gen_ai.operation.name": "chat", **usage}).usage == {"input": 100, "output": 50}


def test_openinference() -> None:
    attributes = {
        "openinference.span.kind": "LLM",
        "llm.model_name": "gpt-4o-mini",
        "llm.provider": "openai",
        "llm.invocation_parameters": '{"temperature": 0}',
        "llm.token_count.prompt": 10,
        "llm.token_count.prompt_details.cache_read": 4,
        "llm.token_count.completion": 6,
        "llm.token_count.total": 16,
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.0.message.role": "system",
        "llm.output_messages.0.message.content": "because",
        "metadata": '{"k": 1}',
        "tag.tags": ["x"],
        "mine": 1,
    }
    told = understood(attributes)
    assert (told.type, told.model, told.tags) == (pb.SPAN_TYPE_GENERATION, "gpt-4o-mini", ["x"])
    assert told.usage == {"input": 6, "input_cached_tokens": 4, "output": 6, "total": 16}
    cold = read_content(source(attributes))
    assert cold.input == '[{"role":"system"},{"role":"user"}]'
    assert cold.output == '[{"content":"because"}]'
    assert (cold.model_parameters, cold.metadata, cold.attributes) == ({"temperature": 0}, {"k": 1}, {"mine": 1})


def test_traceloop() -> None:
    attributes = {
        "traceloop.span.kind": "tool",
        "traceloop.entity.name": "search",
        "traceloop.entity.input": '{"q": 1}',
        "traceloop.workflow.name": "support",
        "traceloop.association.properties.user_id": "ada",
    }
    told = understood(attributes)
    assert (told.name, told.type, told.trace_name, told.user_id) == ("search", pb.SPAN_TYPE_TOOL, "support", "ada")
    assert told.input_preview == '{"q": 1}'


@pytest.mark.parametrize(
    ("sdk", "encoded", "decoded"),
    [
        (("langfuse-python", "5.0.4"), '"123"', "123"),
        (("langfuse-python", "5.0.4"), "123", 123),
        (("langfuse-python", "5.0.4"), "not json", "not json"),
        (("langfuse-python", "5.0.4"), "null", None),
        (("langfuse-python", "4.18.0"), "123", "123"),
        (("langfuse-python", "4.18.0"), '"123"', '"123"'),
        (("", ""), "123", "123"),
    ],
)
def test_langfuse_metadata_of_both_encodings(sdk: tuple[str, str], encoded: str, decoded: Any) -> None:
    assert read_content(source({"langfuse.observation.metadata.k": encoded}, sdk=sdk)).metadata == {"k": decoded}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"input": 5, "output": 2, "total": 7}, {"input": 5, "output": 2, "total": 7}),
        (
            {"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 6}},
            {"input": 4, "input_cached_tokens": 6, "output": 4},
        ),
        (
            {"input_tokens": 10, "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 5}},
            {"input": 10, "output": 4, "output_reasoning_tokens": 5},
        ),
        (
            {"input_tokens": 10, "output_tokens": 2, "cache_read_input_tokens": 90},
            {"input": 10, "input_cached_tokens": 90, "output": 2},
        ),
        ({"input": -1, "output": "many", "else": True}, None),
        ("nonsense", None),
    ],
)
def test_usage_of_every_provider_counts_each_token_once(raw: Any, expected: dict[str, int] | None) -> None:
    assert understood({"langfuse.observation.usage_details": json.dumps(raw)}).usage == expected


def test_an_error_status_is_the_level_unless_one_is_told() -> None:
    failed = Status(code=Status.STATUS_CODE_ERROR, message="no")
    assert understood({}, status=failed).level == pb.LEVEL_ERROR
    assert understood({}, status=failed).status_message == "no"
    assert understood({"langfuse.observation.level": "DEFAULT"}, status=failed).level == pb.LEVEL_DEFAULT
    assert understood({}).level is None


def test_what_postgres_cannot_hold_is_cleaned_and_counted() -> None:
    told = understood({"user.id": "a\0b", "session.id": "x" * 600, "input.value": "c\0d"})
    assert (told.user_id, len(told.session_id or ""), told.input_preview) == ("a\ufffdb", 512, "c\ufffdd")
    assert told.changes == {"text": 2, "length": 1}


def test_a_first_token_at_no_time_is_not_told() -> None:
    for never in (float("inf"), float("nan"), -1, "soon", True):
        assert understood({"langfuse.observation.completion_start_time": never}).first_token_us is None


def test_of_keys_that_tell_of_one_field_the_first_dialect_is_believed_wherever_it_stands() -> None:
    pairs = [
        ("user_id", "lodestream.user.id", "langfuse.user.id"),
        ("session_id", "session.id", "gen_ai.conversation.id"),
        ("model", "llm.response.model", "gen_ai.request.model"),
        ("trace_name", "langfuse.trace.name", "traceloop.workflow.name"),
        ("input_preview", "input.value", "gen_ai.prompt.0.content"),
        ("input_preview", "traceloop.entity.input", "input"),
        ("name", "traceloop.entity.name", "gen_ai.tool.name"),
    ]
    for field, believed, other in pairs:
        for keys in ((believed, other), (other, believed)):
            assert getattr(understood({key: f"by {key}" for key in keys}), field) == f"by {believed}"
    assert understood({"lodestream.user.id": "", "user.id": "ada"}).user_id == "ada", "an empty name tells nothing"
    assert understood({"lodestream.observation.input": "", "input": "x"}).input_preview == "", "an empty input does"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        "gen_ai.operation.name", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.input.messages",
        "gen_ai.prompt.0.content", "gen_ai.prompt.0", "gen_ai.system_instructions", "gen_ai.request.temperature",
        "llm.token_count.prompt", "llm.input_messages.0.message", "llm.input_messages.0.message.role", "llm.cost.total",
        "langfuse.observation.usage_details", "langfuse.observation.cost_details", "langfuse.observation.level",
        "langfuse.observation.completion_start_time", "langfuse.trace.tags", "langfuse.observation.metadata",
        "lodestream.observation.prompt.version", "openinference.span.kind", "tag.tags", "user.id", "metadata", "input",
    ]
)  # fmt: skip


@given(st.dictionaries(KEYS | st.text(max_size=10), JSON, max_size=8))
def test_nothing_an_emitter_sends_raises(attributes: dict[str, Any]) -> None:
    anything = source(attributes, sdk=("langfuse-python", "5.0.4"))
    told, cold = read_columns(anything), read_content(anything)
    for text in (told.name, told.user_id, told.input_preview, cold.input, cold.output):
        assert "\0" not in (text or "")
    assert all(0 <= amount < 2**63 for amount in (told.usage or {}).values())
    json.dumps([cold.metadata, cold.attributes, cold.model_parameters], allow_nan=False)


@pytest.mark.parametrize(
    ("attributes", "cost"),
    [
        ({"llm.cost.total": 0.5}, {"total": 500_000_000_000}),
        (
            {"llm.cost.prompt": 0.25, "llm.cost.completion": "0.125"},
            {"input": 250_000_000_000, "output": 125_000_000_000},
        ),
        ({"gen_ai.usage.cost": 0.75}, {"total": 750_000_000_000}),
    ],
)
def test_costs_that_instrumentations_reckon_themselves(attributes: dict[str, Any], cost: dict[str, int]) -> None:
    assert understood(attributes).cost == cost


def test_the_documents_of_a_retriever_are_its_output_unless_it_has_messages() -> None:
    documents = {"retrieval.documents.0.document.content": "a", "retrieval.documents.1.document.id": "7"}
    assert read_content(source(documents)).output == '[{"content":"a"},{"id":"7"}]'
    messages = {**documents, "llm.output_messages.0.message.role": "assistant"}
    assert read_content(source(messages)).output == '[{"role":"assistant"}]'


@pytest.mark.parametrize(
    ("scope", "version", "decoded"),
    [
        ("langfuse-sdk", "5.0.4", 123),
        ("langfuse-sdk", "10.1", 123),
        ("langfuse-sdk", "4.18.0", "123"),
        ("langfuse-sdk", "", "123"),
        ("another", "5.0.4", "123"),
    ],
)
def test_without_a_header_langfuses_scope_says_how_metadata_is_encoded(scope: str, version: str, decoded: Any) -> None:
    received = source({"langfuse.observation.metadata.k": "123"}, scope=scope)
    received.origin.scope.version = version
    assert read_content(received).metadata == {"k": decoded}


@pytest.mark.parametrize(
    ("text", "preview"),
    [
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 199 + "…"),
        ("x " * 300, ("x " * 100)[:199] + "…"),
        (" \n a\t\tb  c ", "a b c"),
        ("a" + " " * 300 + "b", "a b"),  # the first characters fold to one, so more are looked at
        ("a" + " " * 300 + "b" * 300, "a " + "b" * 197 + "…"),
        ("a" + " " * 1000 + "b", "a"),
        ("\n" * 100 + "c" * 250, "c" * 199 + "…"),
    ],
)
def test_a_preview_is_the_first_200_characters_with_whitespace_folded(text: str, preview: str) -> None:
    assert understood({"input.value": text}).input_preview == preview


@pytest.mark.parametrize(
    ("sdk", "resource", "expected"),
    [
        (("lodestream", "1.2"), {"telemetry.sdk.name": "opentelemetry"}, "lodestream/1.2"),
        (("lodestream", ""), {"telemetry.sdk.version": "9"}, "lodestream"),
        (("", ""), {"telemetry.sdk.name": "opentelemetry", "telemetry.sdk.version": "1.45"}, "opentelemetry/1.45"),
        (("", ""), {"telemetry.sdk.name": "opentelemetry"}, "opentelemetry"),
        (("", ""), {}, None),
    ],
)
def test_the_sdk_is_the_exports_else_the_resources(
    sdk: tuple[str, str], resource: dict[str, Any], expected: str | None
) -> None:
    assert understood({}, sdk=sdk, resource=resource).sdk == expected
