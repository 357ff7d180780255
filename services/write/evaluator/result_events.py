"""The events that publish what came of an item, as bytes: its spans, its scores, and the result last. Pure.

The trace of an item is a chain with the generation and the evaluators in it, in the attributes of our own SDK.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_evals.evaluation import Evaluation
from lodestream_evals.items import value_field
from lodestream_evals.lenient_json import encodable, storable
from lodestream_proto.v1.event_pb2 import Event, Producer
from lodestream_proto.v1.experiment_event_pb2 import ExperimentItemFinished, ExperimentUsage, ItemEvaluation
from lodestream_proto.v1.score_event_pb2 import SCORE_SOURCE_EVALUATOR, ScoreRecorded, ScoreTarget, ScoreValue
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_ZSTD, SpansRecorded
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from services.write.evaluator.items import EvaluatorOutcome, ItemOutcome, RunItem, event_id, span_id, trace_id
from services.write.evaluator.jobs import Run
from services.write.evaluator.run_context import RunContext
from shared.event_log.append import MAX_VALUE_BYTES, Record
from shared.event_log.topics import EXPERIMENTS, SCORES, TRACES
from shared.projection.dead_letters import code_version
from shared.rules.experiments import check_item_result
from shared.runtime.refusal import InvalidError
from shared.spans.blocks import compress, decompress
from shared.spans.dialects.usage import totals
from shared.spans.pricing import cost_of, total_cost

_PRODUCER = "lodestream-evaluator"
_ENVIRONMENT = "experiment"
_OBSERVATION = "lodestream.observation"
_CONTENT_SIZES = (1_000_000, 100_000, 10_000, 1_000)
"""How many characters of each text a trace keeps: the first of these with which it fits into a record."""
_SHORT_COMMENT = 200
_MAX_ERROR = 4_000


def item_events(context: RunContext, item: RunItem, outcome: ItemOutcome) -> list[bytes]:
    """Return all events of an item's outcome; equal outcomes give equal bytes."""
    names = item.names(context.run)
    trace = trace_id(*names)
    finished = ExperimentItemFinished(
        run_id=context.run[1],
        item_id=item.item_id,
        repetition=item.repetition,
        trace_id=trace,
        output_json="" if outcome.reply is None else json.dumps(encodable(outcome.reply.text), ensure_ascii=False),
        error=_error_text(outcome.error),
        started_at=_timestamp(outcome.started_ns),
        ended_at=_timestamp(outcome.ended_ns),
        usage=task_usage(outcome),
        evaluations=[item_evaluation(evaluator, names) for evaluator in outcome.evaluators],
        attempts=outcome.attempts,
    )
    at = outcome.evaluated_ns
    return [
        _spans_event(context, item, outcome, at),
        *score_events(context.run, names, ScoreTarget(trace_id=trace), outcome.evaluators, at),
        _result_event(context.run[0], names, finished, at),
    ]


def score_events(
    run: Run, names: Sequence[str | int], target: ScoreTarget, evaluators: Iterable[EvaluatorOutcome], at_ns: int
) -> list[bytes]:
    """Return a score for each evaluation. Ids follow from `names` and the evaluator's name."""
    return [
        _event(
            run[0],
            event_id(*names, "score", each.name, "event"),
            at_ns,
            score_recorded=ScoreRecorded(
                score_id=event_id(*names, "score", each.name),
                target=target,
                name=each.name,
                value=ScoreValue(**value_field(each.evaluation)),
                comment=each.evaluation.comment or "",
                source=SCORE_SOURCE_EVALUATOR,
                author=_PRODUCER,
                evaluator_version=each.revision,
                environment=_ENVIRONMENT,
                metadata_json=_metadata(each.evaluation),
            ),
        )
        for each in evaluators
        if each.evaluation is not None
    ]


def item_evaluation(outcome: EvaluatorOutcome, names: Sequence[str | int]) -> ItemEvaluation:
    """Return what came of an evaluator as results hold it, with the id of its score."""
    if outcome.evaluation is None:
        return ItemEvaluation(
            name=outcome.name, error=_error_text(outcome.error), evaluator_version=outcome.revision
        )  # fmt: skip
    return ItemEvaluation(
        name=outcome.name,
        comment=outcome.evaluation.comment or "",
        evaluator_version=outcome.revision,
        metadata_json=_metadata(outcome.evaluation),
        score_id=event_id(*names, "score", outcome.name),
        **value_field(outcome.evaluation),
    )


def run_event(run: Run, names: Sequence[str | int], at_ns: int, **payload: Any) -> bytes:
    """Return an event about a run, with the id that follows from the run and the names."""
    return _event(run[0], event_id(*run, *names), at_ns, **payload)


def task_usage(outcome: ItemOutcome) -> ExperimentUsage:
    """Return the tokens and the cost of an item's task, without its evaluators."""
    if outcome.reply is None or not outcome.reply.usage:
        return ExperimentUsage()
    input_tokens, output_tokens, _ = totals(dict(outcome.reply.usage))
    cost = cost_of(outcome.reply.model, outcome.reply.usage)
    return ExperimentUsage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cost_picodollars=None if cost is None else total_cost(cost),
    )


def log_record(event_bytes: bytes) -> Record:
    """Return the record of an event: its topic and key follow from its payload."""
    event = Event.FromString(event_bytes)
    project = f"{event.project_id}/".encode()
    match event.WhichOneof("payload"):
        case "spans_recorded":
            otlp = decompress(COMPRESSION_ZSTD, event.spans_recorded.otlp_request)
            spans = ExportTraceServiceRequest.FromString(otlp).resource_spans[0].scope_spans[0].spans
            return Record(TRACES, project + spans[0].trace_id, event_bytes)
        case "score_recorded":
            target = event.score_recorded.target
            return Record(SCORES, project + (target.trace_id or target.run_id.encode()), event_bytes)
        case "experiment_item_finished":
            return Record(EXPERIMENTS, project + event.experiment_item_finished.run_id.encode(), event_bytes)
        case _:
            return Record(EXPERIMENTS, project + event.experiment_finished.run_id.encode(), event_bytes)


def _spans_event(context: RunContext, item: RunItem, outcome: ItemOutcome, at_ns: int) -> bytes:
    """The trace of an item, with texts as long as the record has room for."""
    event = b""
    for max_characters in _CONTENT_SIZES:
        request = _trace_request(context, item, outcome, max_characters=max_characters)
        count = len(request.resource_spans[0].scope_spans[0].spans)
        block = compress(request.SerializeToString(deterministic=True))
        recorded = SpansRecorded(otlp_request=block, compression=COMPRESSION_ZSTD, span_count=count)
        event = _event(
            context.run[0], event_id(*item.names(context.run), "spans"), at_ns, spans_recorded=recorded
        )  # fmt: skip
        if len(event) <= MAX_VALUE_BYTES:
            break
    return event


def _trace_request(
    context: RunContext, item: RunItem, outcome: ItemOutcome, *, max_characters: int
) -> ExportTraceServiceRequest:
    names = item.names(context.run)
    trace, root_id = trace_id(*names), span_id(*names, "root")

    def span(
        name: str, own_id: bytes, between: tuple[int, int], attributes: Mapping[str, Any], error: str = ""
    ) -> Span:
        attributes = {**attributes, **_common_attributes(error)}
        return Span(
            trace_id=trace,
            span_id=own_id,
            parent_span_id=b"" if own_id == root_id else root_id,
            name=name,
            kind=Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=between[0],
            end_time_unix_nano=max(between),
            attributes=[KeyValue(key=key, value=_any_value(value)) for key, value in attributes.items()],
            status=Status(code=Status.STATUS_CODE_ERROR, message=error) if error else Status(),
        )

    error = encodable(_cut(outcome.error, max_characters))
    root = _root_attributes(context, item, outcome, max_characters)
    spans = [span(context.request.name, root_id, (outcome.started_ns, outcome.evaluated_ns), root, error)]
    if outcome.messages is not None:
        generation = _generation_attributes(context, outcome, max_characters)
        between = outcome.started_ns, outcome.ended_ns
        spans.append(span(context.task.prompt_name, span_id(*names, "generation"), between, generation, error))
    for each in outcome.evaluators:
        evaluator, own_id = (
            _evaluator_attributes(each, outcome, max_characters),
            span_id(*names, "evaluator", each.name),
        )
        between, error = (each.started_ns, each.ended_ns), encodable(_cut(each.error, max_characters))
        spans.append(span(each.name, own_id, between, evaluator, error))
    scope = InstrumentationScope(name=_PRODUCER, version=_version())
    resource = Resource(attributes=[KeyValue(key="service.name", value=_any_value(_PRODUCER))])
    return ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=resource, scope_spans=[ScopeSpans(scope=scope, spans=spans)])]
    )


def _common_attributes(error: str) -> dict[str, Any]:
    attributes = {"lodestream.environment": _ENVIRONMENT}
    if error:
        attributes |= {f"{_OBSERVATION}.level": "ERROR", f"{_OBSERVATION}.status_message": error}
    return attributes


def _root_attributes(context: RunContext, item: RunItem, outcome: ItemOutcome, max_characters: int) -> dict[str, Any]:
    request = context.request
    metadata = {
        "run_id": request.run_id,
        "run_name": request.name,
        "item_id": item.item_id,
        "repetition": item.repetition,
        "dataset": context.dataset_name,
        "dataset_version": request.dataset_version,
        "attempts": outcome.attempts,
    }
    attributes = {
        f"{_OBSERVATION}.type": "chain",
        "lodestream.trace.name": request.name,
        f"{_OBSERVATION}.input": _cut(item.input, max_characters),
        **{f"{_OBSERVATION}.metadata.{key}": json.dumps(value, ensure_ascii=False) for key, value in metadata.items()},
    }
    if item.expected_output:
        attributes[f"{_OBSERVATION}.metadata.expected_output"] = _cut(item.expected_output, max_characters)
    if outcome.reply is not None:
        attributes[f"{_OBSERVATION}.output"] = _cut(outcome.reply.text, max_characters)
    return attributes


def _generation_attributes(context: RunContext, outcome: ItemOutcome, max_characters: int) -> dict[str, Any]:
    task = context.task
    messages = json.dumps(outcome.messages, ensure_ascii=False, default=str)
    attributes: dict[str, Any] = {
        f"{_OBSERVATION}.type": "generation",
        f"{_OBSERVATION}.model.name": task.model,
        f"{_OBSERVATION}.prompt.name": task.prompt_name,
        f"{_OBSERVATION}.prompt.version": task.prompt_version,
        f"{_OBSERVATION}.input": _cut(messages, max_characters),
        "gen_ai.provider.name": task.provider,
    }
    if task.settings:
        attributes[f"{_OBSERVATION}.model.parameters"] = json.dumps(task.settings, ensure_ascii=False)
    if outcome.reply is not None:
        answer = {"role": "assistant", "content": outcome.reply.text}
        attributes[f"{_OBSERVATION}.output"] = _cut(json.dumps(answer, ensure_ascii=False), max_characters)
        attributes[f"{_OBSERVATION}.model.name"] = outcome.reply.model
        if outcome.reply.usage:
            attributes[f"{_OBSERVATION}.usage_details"] = json.dumps(dict(outcome.reply.usage))
    return attributes


def _evaluator_attributes(evaluator: EvaluatorOutcome, outcome: ItemOutcome, max_characters: int) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        f"{_OBSERVATION}.type": "evaluator",
        f"{_OBSERVATION}.metadata.evaluator_version": json.dumps(evaluator.revision),
    }
    if outcome.reply is not None:
        attributes[f"{_OBSERVATION}.input"] = _cut(outcome.reply.text, max_characters)
    if evaluator.evaluation is not None:
        value = {"value": evaluator.evaluation.value, "comment": evaluator.evaluation.comment}
        attributes[f"{_OBSERVATION}.output"] = _cut(json.dumps(value, ensure_ascii=False), max_characters)
    return attributes


def _result_event(project_id: str, names: Sequence[str | int], finished: ExperimentItemFinished, at_ns: int) -> bytes:
    """The result as the read model takes it: without metadata if need be, and as an error rather than not at all."""
    try:
        check_item_result(finished, "the result")
    except InvalidError:
        for each in finished.evaluations:
            each.ClearField("metadata_json")
            each.comment = each.comment[:_SHORT_COMMENT]
    try:
        check_item_result(finished, "the result")
    except InvalidError as error:
        finished.ClearField("evaluations")
        finished.ClearField("output_json")
        finished.error = str(error)
    return _event(project_id, event_id(*names, "finished"), at_ns, experiment_item_finished=finished)


def _event(project_id: str, own_id: str, at_ns: int, **payload: Any) -> bytes:
    event = Event(
        event_id=own_id,
        project_id=project_id,
        occurred_at=_timestamp(at_ns),
        received_at=_timestamp(at_ns),
        producer=Producer(name=_PRODUCER, version=_version()),
        **payload,
    )
    return event.SerializeToString(deterministic=True)


def _metadata(evaluation: Evaluation) -> str:
    if not evaluation.metadata:
        return ""
    return encodable(json.dumps(evaluation.metadata, ensure_ascii=False, default=str))


def _timestamp(unix_ns: int) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromNanoseconds(unix_ns)
    return timestamp


def _any_value(value: Any) -> AnyValue:
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=encodable(str(value)))


def _cut(text: str, max_characters: int) -> str:
    return text if len(text) <= max_characters else f"{text[:max_characters]}… ({len(text)} characters)"


def _error_text(error: str) -> str:
    """Make a message one that Postgres takes: without NUL characters, and not too long."""
    return storable(error)[:_MAX_ERROR]


def _version() -> str:
    return code_version().split()[-1]
