"""The traces of the measurements: five spans of a question answered from documents, 1.9 KB of OTLP a span.

Chain, retriever with three documents, prompt, generation with 1.5 KB in and 0.8 KB out, tool; OpenInference attributes.
"""

import random
import time
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

SPANS_OF_A_TRACE = 5
_NONCE = b"\xf5\xf6nonce\xf7"  # no text holds these bytes; replaced at every send
_PROSE = """
the customer asked why an order of last week has not arrived yet and the agent looked into every document that
explains delivery times refunds warranty claims invoices addresses carriers parcels returns discounts accounts
passwords subscriptions renewals limits regions currencies taxes receipts payments cards transfers delays
"""
_WORDS = _PROSE.split()
Value = str | int | float


@dataclass(frozen=True, slots=True)
class Export:
    """A request to send again and again, each time with traces of its own."""

    spans: int
    _template: bytes

    def fresh(self, nonce: bytes) -> bytes:
        """Its bytes with trace ids that begin with these 8 bytes."""
        return self._template.replace(_NONCE, nonce)


def exports(*, spans: int, variants: int = 8, payload_bytes: int | None = None, seed: int = 1) -> list[Export]:
    """Requests of so many spans. With `payload_bytes` every span has a text of that size as its input."""
    chance = random.Random(seed)
    return [Export(spans, _request(chance, spans, payload_bytes)) for _ in range(variants)]


def _request(chance: random.Random, spans: int, payload_bytes: int | None) -> bytes:
    found: list[Span] = []
    trace = 0
    while len(found) < spans:
        trace += 1
        found += _trace(chance, trace, payload_bytes)
    resource = {
        "service.name": "support", "deployment.environment.name": "production", "service.version": "4.2.0",
        "telemetry.sdk.name": "opentelemetry", "telemetry.sdk.language": "python", "telemetry.sdk.version": "1.45.0",
    }  # fmt: skip
    scope = InstrumentationScope(name="openinference.instrumentation.langchain", version="0.1.43")
    return ExportTraceServiceRequest(
        resource_spans=[
            ResourceSpans(
                resource=Resource(attributes=_attributes(resource)),
                scope_spans=[ScopeSpans(scope=scope, spans=found[:spans])],
            )
        ]
    ).SerializeToString()


def _trace(chance: random.Random, number: int, payload_bytes: int | None) -> list[Span]:
    start = time.time_ns() - chance.randrange(60 * 10**9)
    question, answer = _text(chance, 850), _text(chance, 800)
    session: dict[str, Value] = {"session.id": f"session-{chance.randrange(500)}", "user.id": f"user-{number % 90}"}
    retriever: dict[str, Value] = {"openinference.span.kind": "RETRIEVER", "input.value": question}
    for n in range(3):
        retriever[f"retrieval.documents.{n}.document.id"] = f"doc-{chance.randrange(10_000)}"
        retriever[f"retrieval.documents.{n}.document.content"] = _text(chance, 420)
        retriever[f"retrieval.documents.{n}.document.score"] = chance.random()
    told: list[tuple[str, dict[str, Value]]] = [
        (
            "answer",
            {"openinference.span.kind": "CHAIN", "input.value": question, "output.value": answer, **session},
        ),
        ("search", retriever),
        ("prompt", {"openinference.span.kind": "PROMPT", "input.value": question, "output.value": _text(chance, 450)}),
        (
            "ChatOpenAI",
            {
                "openinference.span.kind": "LLM", "llm.model_name": "gpt-4o-mini", "llm.provider": "openai",
                "llm.invocation_parameters": '{"temperature": 0.2, "max_tokens": 800}',
                "input.value": _text(chance, 1_500), "input.mime_type": "text/plain", "output.value": answer,
                "output.mime_type": "text/plain", "llm.token_count.prompt": chance.randrange(300, 400),
                "llm.token_count.completion": chance.randrange(150, 250),
                "llm.token_count.total": chance.randrange(500, 600),
            },
        ),
        (
            "order_status",
            {
                "openinference.span.kind": "TOOL", "tool.name": "order_status", "input.value": '{"order": 1042}',
                "output.value": _text(chance, 700),
            },
        ),
    ]  # fmt: skip
    spans: list[Span] = []
    for n, (name, attributes) in enumerate(told):
        if payload_bytes is not None:
            attributes["input.value"] = _text(chance, payload_bytes)
        span_id = (number * SPANS_OF_A_TRACE + n + 1).to_bytes(8, "big")
        spans.append(
            Span(
                trace_id=_NONCE + number.to_bytes(8, "big"),
                span_id=span_id,
                parent_span_id=spans[0].span_id if spans else b"",
                name=name,
                kind=Span.SPAN_KIND_INTERNAL,
                start_time_unix_nano=start + n * 10**8,
                end_time_unix_nano=start + (n + 1) * 10**8 if n else start + 6 * 10**8,
                attributes=_attributes(attributes),
            )
        )
    return spans


def _text(chance: random.Random, size: int) -> str:
    """Words in no order: compresses less than prose."""
    words = chance.choices(_WORDS, k=size // 5)
    return " ".join(words)[:size]


def _attributes(values: dict[str, Value] | dict[str, str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any(value)) for key, value in values.items()]


def _any(value: Value) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(double_value=value)
