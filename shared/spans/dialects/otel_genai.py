"""OpenTelemetry's GenAI conventions: the current attributes, those of v1.36, and messages sent as span events."""

from collections.abc import Iterable
from itertools import chain
from typing import Any

from lodestream_proto.v1.trace_pb2 import (
    SPAN_TYPE_AGENT,
    SPAN_TYPE_CHAIN,
    SPAN_TYPE_EMBEDDING,
    SPAN_TYPE_GENERATION,
    SPAN_TYPE_RETRIEVER,
    SPAN_TYPE_TOOL,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from shared.spans.blocks import ReceivedSpan
from shared.spans.dialects.dialect import Attributes, Dialect, Extractor, Usage
from shared.spans.dialects.flattened import unflatten
from shared.spans.dialects.sdk_attributes import cost_from
from shared.spans.dialects.usage import CACHE_CREATION, CACHED, REASONING, inclusive
from shared.spans.dialects.values import TIME, Cleaner, number_of, parse, plain, text_of, to_json

_OPERATION = "gen_ai.operation.name"
_OPERATIONS = {
    **dict.fromkeys(("chat", "completion", "text_completion", "generate_content", "generate"), SPAN_TYPE_GENERATION),
    "embeddings": SPAN_TYPE_EMBEDDING,
    "retrieval": SPAN_TYPE_RETRIEVER,
    "execute_tool": SPAN_TYPE_TOOL,
    "invoke_workflow": SPAN_TYPE_CHAIN,
    **dict.fromkeys(("invoke_agent", "create_agent"), SPAN_TYPE_AGENT),
}
_AGENTS = frozenset({"invoke_agent", "create_agent", "invoke_workflow"})
_TOOLS = ("gen_ai.tool.name", "gen_ai.tool.call.id")
_MODELS = ("gen_ai.response.model", "gen_ai.request.model")
_INPUT_TOKENS = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
_OUTPUT_TOKENS = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
_TOTAL_TOKENS = ("gen_ai.usage.total_tokens", "llm.usage.total_tokens")
_PARTS = {
    CACHED: ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"),
    CACHE_CREATION: ("gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_creation_input_tokens"),
    REASONING: ("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens"),
}
_COST = "gen_ai.usage.cost"
_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
_DETAILS = "gen_ai.client.inference.operation.details"
_INPUT_EVENTS = tuple(f"gen_ai.{role}.message" for role in ("system", "user", "assistant", "tool"))
_INPUT, _OUTPUT, _SYSTEM = "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"
_PROMPT, _COMPLETION = "gen_ai.prompt", "gen_ai.completion"


def _type_of(found: Attributes, _source: ReceivedSpan, clean: Cleaner) -> int | None:
    operation = _OPERATIONS.get(text_of(found[_OPERATION], clean) or "") if _OPERATION in found else None
    if operation is not None:
        return operation
    if any(key in found for key in _TOOLS):
        return SPAN_TYPE_TOOL
    return SPAN_TYPE_GENERATION if any(key in found for key in _MODELS) else None


def _usage_of(found: Attributes, _source: ReceivedSpan, clean: Cleaner) -> Usage | None:
    """An agent's or a workflow's span repeats the usage of the calls below it, which would count twice."""
    if _OPERATION in found and text_of(found[_OPERATION], clean) in _AGENTS:
        return None
    wholes = [_number(found, keys, clean) for keys in (_INPUT_TOKENS, _OUTPUT_TOKENS, _TOTAL_TOKENS)]
    if all(whole is None for whole in wholes):
        return None
    return inclusive(clean, *wholes, **{part: _number(found, keys, clean) for part, keys in _PARTS.items()})


def _cost_of(found: Attributes, _source: ReceivedSpan, clean: Cleaner) -> dict[str, int] | None:
    return cost_from({"total": number_of(found[_COST], clean)}, clean)


def _first_token_us(found: Attributes, _source: ReceivedSpan, clean: Cleaner) -> int | None:
    seconds = number_of(found[_FIRST_CHUNK], clean)
    if seconds is None or 0 <= seconds < 1_000_000:
        return None if seconds is None else int(seconds * 1_000_000)
    clean.count(TIME)
    return None


def _number(found: Attributes, keys: Iterable[str], clean: Cleaner) -> int | float | None:
    for key in keys:
        if key in found and (number := number_of(found[key], clean)) is not None:
            return number
    return None


def _input_of(found: Attributes, source: ReceivedSpan, clean: Cleaner) -> str | None:
    messages = _from_details(source.span, _INPUT) or _from_events(source.span, _INPUT_EVENTS)
    if messages is None:
        messages = unflatten(found, _PROMPT) or _decoded(found, _INPUT)
    system = _decoded(found, _SYSTEM) or _from_details(source.span, _SYSTEM)
    if system and isinstance(messages, list):
        messages = [{"role": "system", "parts": system}, *messages]
    return _encoded(messages, clean)


def _output_of(found: Attributes, source: ReceivedSpan, clean: Cleaner) -> str | None:
    messages = _from_details(source.span, _OUTPUT) or _from_events(source.span, ("gen_ai.choice",))
    if messages is None:
        messages = unflatten(found, _COMPLETION) or _decoded(found, _OUTPUT)
    return _encoded(messages, clean)


def _encoded(messages: Any, clean: Cleaner) -> str | None:
    """JSON text; a text that is none (cut by a limit, nested too deep) as it came, so that it is seen."""
    if messages in (None, []):
        return None
    if isinstance(messages, str) and messages[:1] in ("[", "{"):
        return messages
    return to_json(messages, clean)


def _decoded(found: Attributes, key: str) -> Any:
    """A value sent as JSON text, or as a structure: conventions allow both."""
    if key not in found:
        return None
    value = plain(found[key])
    if not isinstance(value, str) or value[:1] not in ("[", "{"):
        return value
    parsed = parse(value)
    return value if parsed is None else parsed


def _from_details(span: Span, key: str) -> Any:
    for event in span.events:
        if event.name == _DETAILS:
            return _decoded({attribute.key: attribute.value for attribute in event.attributes}, key)
    return None


def _from_events(span: Span, names: tuple[str, ...]) -> list[Any] | None:
    messages = [
        {"role": event.name.split(".")[1], **{attribute.key: plain(attribute.value) for attribute in event.attributes}}
        for event in span.events
        if event.name in names
    ]
    return messages or None


OTEL_GENAI = Dialect(
    name="otel_genai",
    type=Extractor(read=_type_of, keys=(_OPERATION, *_TOOLS, *_MODELS)),
    usage=Extractor(
        read=_usage_of, keys=(_OPERATION, *_INPUT_TOKENS, *_OUTPUT_TOKENS, *_TOTAL_TOKENS, *chain(*_PARTS.values()))
    ),
    cost=Extractor(read=_cost_of, keys=(_COST,)),
    first_token_us=Extractor(read=_first_token_us, keys=(_FIRST_CHUNK,)),
    input_of=Extractor(read=_input_of, keys=(_INPUT, _SYSTEM), prefixes=(f"{_PROMPT}.",), events=True),
    output_of=Extractor(read=_output_of, keys=(_OUTPUT,), prefixes=(f"{_COMPLETION}.",), events=True),
    span_name=("gen_ai.tool.name",),
    model=_MODELS,
    provider=("gen_ai.provider.name", "gen_ai.system"),
    prompt_name=("gen_ai.prompt.name",),
    session_id=("gen_ai.conversation.id",),
    input=("gen_ai.tool.call.arguments", "gen_ai.retrieval.query.text", _PROMPT),
    output=("gen_ai.tool.call.result", "gen_ai.retrieval.documents", _COMPLETION),
)
