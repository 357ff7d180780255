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

from shared.read_model.blocks import Source
from shared.read_model.dialects.fields import Dialect, Found, Usage
from shared.read_model.dialects.indexed import indexed
from shared.read_model.dialects.told_by_sdk import cost_from
from shared.read_model.dialects.usage import CACHE_CREATION, CACHED, INPUT_AUDIO, OUTPUT_AUDIO, REASONING, inclusive
from shared.read_model.dialects.values import number_of, text_of, to_json

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
_PARTS = {
    CACHED: f"{_COUNT}.prompt_details.cache_read",
    CACHE_CREATION: f"{_COUNT}.prompt_details.cache_write",
    INPUT_AUDIO: f"{_COUNT}.prompt_details.audio",
    REASONING: f"{_COUNT}.completion_details.reasoning",
    OUTPUT_AUDIO: f"{_COUNT}.completion_details.audio",
}
_COSTS = {"total": "llm.cost.total", "input": "llm.cost.prompt", "output": "llm.cost.completion"}


def _type_of(found: Found) -> int | None:
    return _KINDS.get((text_of(found[_KIND]) or "").upper()) if _KIND in found else None


def _usage_of(found: Found) -> Usage | None:
    if not any(f"{_COUNT}.{whole}" in found for whole in ("prompt", "completion", "total")):
        return None
    prompt, completion, total = (_number(found, f"{_COUNT}.{key}") for key in ("prompt", "completion", "total"))
    return inclusive(prompt, completion, total, **{part: _number(found, key) for part, key in _PARTS.items()})


def _cost_of(found: Found) -> dict[str, int] | None:
    return cost_from({kind: _number(found, key) for kind, key in _COSTS.items() if key in found})


def _number(found: Found, key: str) -> int | float | None:
    return number_of(found[key]) if key in found else None


def _input_of(found: Found, _source: Source) -> str | None:
    messages = indexed(found, "llm.input_messages", item="message")
    return to_json(messages) if messages else None


def _output_of(found: Found, _source: Source) -> str | None:
    for prefix, item in (("llm.output_messages", "message"), ("retrieval.documents", "document")):
        if items := indexed(found, prefix, item=item):
            return to_json(items)
    return None


OPENINFERENCE = Dialect(
    name="openinference",
    type_of=_type_of,
    usage_of=_usage_of,
    cost_of=_cost_of,
    input_of=_input_of,
    output_of=_output_of,
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
    other=(
        _KIND,
        *(f"{_COUNT}.{key}" for key in ("prompt", "completion", "total")),
        *_PARTS.values(),
        *_COSTS.values(),
    ),
    prefixes=("llm.input_messages.", "llm.output_messages.", "retrieval.documents."),
)
