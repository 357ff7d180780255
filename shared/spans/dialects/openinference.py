"""OpenInference (Arize): `openinference.span.kind`, `input.value`, `llm.*`, and lists written flat."""

from lodestream_proto.v1.trace_pb2 import (
    SPAN_TYPE_AGENT,
    SPAN_TYPE_CHAIN,
    SPAN_TYPE_EMBEDDING,
    SPAN_TYPE_EVALUATOR,
    SPAN_TYPE_GENERATION,
    SPAN_TYPE_GUARDRAIL,
    SPAN_TYPE_RETRIEVER,
    SPAN_TYPE_SPAN,
    SPAN_TYPE_TOOL,
)

from shared.spans.blocks import ReceivedSpan
from shared.spans.dialects.dialect import Attributes, Dialect, Extractor, Usage
from shared.spans.dialects.flattened import unflatten
from shared.spans.dialects.sdk_attributes import cost_from
from shared.spans.dialects.usage import CACHE_CREATION, CACHED, INPUT_AUDIO, OUTPUT_AUDIO, REASONING, inclusive
from shared.spans.dialects.values import Cleaner, number_of, text_of, to_json

_KINDS = {
    "LLM": SPAN_TYPE_GENERATION,
    "EMBEDDING": SPAN_TYPE_EMBEDDING,
    "CHAIN": SPAN_TYPE_CHAIN,
    "RETRIEVER": SPAN_TYPE_RETRIEVER,
    "RERANKER": SPAN_TYPE_RETRIEVER,
    "TOOL": SPAN_TYPE_TOOL,
    "AGENT": SPAN_TYPE_AGENT,
    "GUARDRAIL": SPAN_TYPE_GUARDRAIL,
    "EVALUATOR": SPAN_TYPE_EVALUATOR,
    "PROMPT": SPAN_TYPE_SPAN,
}
_KIND = "openinference.span.kind"
_COUNT = "llm.token_count"
_WHOLES = tuple(f"{_COUNT}.{whole}" for whole in ("prompt", "completion", "total"))
_PARTS = {
    CACHED: f"{_COUNT}.prompt_details.cache_read",
    CACHE_CREATION: f"{_COUNT}.prompt_details.cache_write",
    INPUT_AUDIO: f"{_COUNT}.prompt_details.audio",
    REASONING: f"{_COUNT}.completion_details.reasoning",
    OUTPUT_AUDIO: f"{_COUNT}.completion_details.audio",
}
_INPUT_MESSAGES, _OUTPUT_MESSAGES, _DOCUMENTS = "llm.input_messages", "llm.output_messages", "retrieval.documents"
_COSTS = {"total": "llm.cost.total", "input": "llm.cost.prompt", "output": "llm.cost.completion"}


def _type_of(found: Attributes, _source: ReceivedSpan, clean: Cleaner) -> int | None:
    return _KINDS.get((text_of(found[_KIND], clean) or "").upper())


def _usage_of(found: Attributes, _source: ReceivedSpan, clean: Cleaner) -> Usage | None:
    if found.keys().isdisjoint(_WHOLES):
        return None
    wholes = [_number(found, key, clean) for key in _WHOLES]
    parts = {part: _number(found, key, clean) for part, key in _PARTS.items() if key in found}
    return inclusive(clean, *wholes, **parts)


def _cost_of(found: Attributes, _source: ReceivedSpan, clean: Cleaner) -> dict[str, int] | None:
    return cost_from({kind: _number(found, key, clean) for kind, key in _COSTS.items() if key in found}, clean)


def _number(found: Attributes, key: str, clean: Cleaner) -> int | float | None:
    return number_of(found[key], clean) if key in found else None


def _input_of(found: Attributes, _source: ReceivedSpan, clean: Cleaner) -> str | None:
    messages = unflatten(found, _INPUT_MESSAGES, item="message")
    return to_json(messages, clean) if messages else None


def _output_of(found: Attributes, _source: ReceivedSpan, clean: Cleaner) -> str | None:
    for prefix, item in ((_OUTPUT_MESSAGES, "message"), (_DOCUMENTS, "document")):
        if items := unflatten(found, prefix, item=item):
            return to_json(items, clean)
    return None


OPENINFERENCE = Dialect(
    name="openinference",
    type=Extractor(read=_type_of, keys=(_KIND,)),
    usage=Extractor(read=_usage_of, keys=(*_WHOLES, *_PARTS.values())),
    cost=Extractor(read=_cost_of, keys=tuple(_COSTS.values())),
    input_of=Extractor(read=_input_of, prefixes=(f"{_INPUT_MESSAGES}.",)),
    output_of=Extractor(read=_output_of, prefixes=(f"{_OUTPUT_MESSAGES}.", f"{_DOCUMENTS}.")),
    model=("llm.response.model", "llm.model_name", "embedding.model_name", "reranker.model_name"),
    provider=("llm.provider", "llm.system"),
    session_id=("session.id",),
    user_id=("user.id",),
    tags=("tag.tags",),
    input=("input.value",),
    output=("output.value",),
    prompt_name=("prompt.id",),
    model_parameters=("llm.invocation_parameters",),
    metadata=("metadata",),
)
