"""The trace of an item: a chain with the generation and the evaluators in it, as our own SDK would tell it. Pure."""

import json
from collections.abc import Mapping
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from services.write.evaluator.identity import span_id, trace_id
from services.write.evaluator.items import Item, Opened, Said, Tried

ENVIRONMENT = "experiment"
_OBSERVATION = "lodestream.observation"
_CUT = "…"


def trace_of(opened: Opened, item: Item, tried: Tried, *, version: str, longest: int) -> ExportTraceServiceRequest:
    """The spans. Texts of content have at most `longest` characters."""
    names = (*opened.run, item.item_id, item.repetition)
    trace, root_id = trace_id(*names), span_id(*names, "root")

    def span(name: str, its_id: bytes, between: tuple[int, int], told: Mapping[str, Any], error: str = "") -> Span:
        return Span(
            trace_id=trace,
            span_id=its_id,
            parent_span_id=b"" if its_id == root_id else root_id,
            name=name,
            kind=Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=between[0],
            end_time_unix_nano=max(between),
            attributes=[KeyValue(key=key, value=_any(value)) for key, value in {**told, **_of_all(error)}.items()],
            status=Status(code=Status.STATUS_CODE_ERROR, message=error) if error else Status(),
        )

    end = max([tried.ended_ns, *(said.ended_ns for said in tried.said)])
    error = _encodable(_shortened(tried.error, longest))
    spans = [span(opened.request.name, root_id, (tried.started_ns, end), _of_root(opened, item, tried, longest), error)]
    if tried.messages is not None:
        generation, its_id = _of_generation(opened, tried, longest), span_id(*names, "generation")
        spans.append(span(opened.task.prompt_name, its_id, (tried.started_ns, tried.ended_ns), generation, error))
    for said in tried.said:
        evaluator, its_id = _of_evaluator(said, tried, longest), span_id(*names, "evaluator", said.name)
        its_error = _encodable(_shortened(said.error, longest))
        spans.append(span(said.name, its_id, (said.started_ns, said.ended_ns), evaluator, its_error))
    scope = InstrumentationScope(name="lodestream-evaluator", version=version)
    resource = Resource(attributes=[KeyValue(key="service.name", value=_any("lodestream-evaluator"))])
    return ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=resource, scope_spans=[ScopeSpans(scope=scope, spans=spans)])]
    )


def _of_all(error: str) -> dict[str, Any]:
    told = {"lodestream.environment": ENVIRONMENT}
    if error:
        told |= {f"{_OBSERVATION}.level": "ERROR", f"{_OBSERVATION}.status_message": error}
    return told


def _of_root(opened: Opened, item: Item, tried: Tried, longest: int) -> dict[str, Any]:
    request = opened.request
    metadata = {
        "run_id": request.run_id,
        "run_name": request.name,
        "item_id": item.item_id,
        "repetition": item.repetition,
        "dataset": opened.dataset_name,
        "dataset_version": request.dataset_version,
        "attempts": tried.attempts,
    }
    told = {
        f"{_OBSERVATION}.type": "chain",
        "lodestream.trace.name": request.name,
        f"{_OBSERVATION}.input": _shortened(item.input, longest),
        **{f"{_OBSERVATION}.metadata.{key}": json.dumps(value, ensure_ascii=False) for key, value in metadata.items()},
    }
    if item.expected_output:
        told[f"{_OBSERVATION}.metadata.expected_output"] = _shortened(item.expected_output, longest)
    if tried.reply is not None:
        told[f"{_OBSERVATION}.output"] = _shortened(tried.reply.text, longest)
    return told


def _of_generation(opened: Opened, tried: Tried, longest: int) -> dict[str, Any]:
    task = opened.task
    told: dict[str, Any] = {
        f"{_OBSERVATION}.type": "generation",
        f"{_OBSERVATION}.model.name": task.model,
        f"{_OBSERVATION}.prompt.name": task.prompt_name,
        f"{_OBSERVATION}.prompt.version": task.prompt_version,
        f"{_OBSERVATION}.input": _shortened(json.dumps(tried.messages, ensure_ascii=False, default=str), longest),
        "gen_ai.provider.name": task.provider,
    }
    if task.settings:
        told[f"{_OBSERVATION}.model.parameters"] = json.dumps(task.settings, ensure_ascii=False)
    if tried.reply is not None:
        answer = {"role": "assistant", "content": tried.reply.text}
        told[f"{_OBSERVATION}.output"] = _shortened(json.dumps(answer, ensure_ascii=False), longest)
        told[f"{_OBSERVATION}.model.name"] = tried.reply.model
        if tried.reply.usage:
            told[f"{_OBSERVATION}.usage_details"] = json.dumps(dict(tried.reply.usage))
    return told


def _of_evaluator(said: Said, tried: Tried, longest: int) -> dict[str, Any]:
    told: dict[str, Any] = {
        f"{_OBSERVATION}.type": "evaluator",
        f"{_OBSERVATION}.metadata.evaluator_version": json.dumps(said.revision),
    }
    if tried.reply is not None:
        told[f"{_OBSERVATION}.input"] = _shortened(tried.reply.text, longest)
    if said.evaluation is not None:
        value = {"value": said.evaluation.value, "comment": said.evaluation.comment}
        told[f"{_OBSERVATION}.output"] = _shortened(json.dumps(value, ensure_ascii=False), longest)
    return told


def _any(value: Any) -> AnyValue:
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=_encodable(str(value)))


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}{_CUT} ({len(text)} characters)"


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
