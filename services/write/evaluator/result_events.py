"""The events that tell what came of an item, as bytes: its spans, its scores, and the result last. Pure."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from lodestream import Evaluation
from lodestream_proto.v1.event_pb2 import Event, Producer
from lodestream_proto.v1.experiment_event_pb2 import ExperimentItemFinished, ExperimentUsage, ItemEvaluation
from lodestream_proto.v1.score_event_pb2 import SCORE_SOURCE_EVALUATOR, ScoreRecorded, ScoreTarget, ScoreValue
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_ZSTD, SpansRecorded
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.write.evaluator.fold import Run
from services.write.evaluator.identity import event_id, trace_id
from services.write.evaluator.items import Item, Opened, Said, Tried
from services.write.evaluator.spans import ENVIRONMENT, trace_of
from shared.event_log.append import MAX_VALUE_BYTES, Record
from shared.event_log.topics import EXPERIMENTS, SCORES, TRACES
from shared.read_model.blocks import compress, decompress
from shared.read_model.dead_letters import code_version
from shared.read_model.dialects.usage import totals
from shared.read_model.experiment_rules import check_item_result
from shared.read_model.pricing import cost_of, total_cost
from shared.runtime.refusal import InvalidError

_CONTENT_SIZES = (1_000_000, 100_000, 10_000, 1_000)
"""Characters of one text in a trace: as many as the record has room for."""
_SHORT_COMMENT = 200
_MAX_ERROR = 4_000


def events_of(opened: Opened, item: Item, tried: Tried) -> list[bytes]:
    """All that is told of an item; the same for the same values."""
    names = (*opened.run, item.item_id, item.repetition)
    trace = trace_id(*names)
    target = ScoreTarget(trace_id=trace)
    finished = ExperimentItemFinished(
        run_id=opened.run[1],
        item_id=item.item_id,
        repetition=item.repetition,
        trace_id=trace,
        output_json="" if tried.reply is None else json.dumps(_encodable(tried.reply.text), ensure_ascii=False),
        error=_told(tried.error),
        started_at=stamp(tried.started_ns),
        ended_at=stamp(tried.ended_ns),
        usage=usage_of(tried),
        evaluations=[evaluation_of(said, names) for said in tried.said],
        attempts=tried.attempts,
    )
    at = max([tried.ended_ns, *(said.ended_ns for said in tried.said)])
    return [
        _spans(opened, item, tried, at),
        *scores_of(opened.run, names, target, tried.said, at),
        _fitting(opened.run[0], names, finished, at),
    ]


def scores_of(
    run: Run, names: Sequence[str | int], target: ScoreTarget, said: Iterable[Said], at_ns: int
) -> list[bytes]:
    """A score for each evaluation."""
    return [
        _event(
            run[0],
            event_id(*names, "score", each.name, "event"),
            at_ns,
            score_recorded=ScoreRecorded(
                score_id=event_id(*names, "score", each.name),
                target=target,
                name=each.name,
                value=ScoreValue(**_value(each.evaluation)),
                comment=each.evaluation.comment or "",
                source=SCORE_SOURCE_EVALUATOR,
                author="lodestream-evaluator",
                evaluator_version=each.revision,
                environment=ENVIRONMENT,
                metadata_json=_metadata(each.evaluation),
            ),
        )
        for each in said
        if each.evaluation is not None
    ]


def evaluation_of(said: Said, names: Sequence[str | int]) -> ItemEvaluation:
    """What an evaluator said, as the result holds it."""
    if said.evaluation is None:
        return ItemEvaluation(name=said.name, error=_told(said.error), evaluator_version=said.revision)
    return ItemEvaluation(
        name=said.name,
        comment=said.evaluation.comment or "",
        evaluator_version=said.revision,
        metadata_json=_metadata(said.evaluation),
        score_id=event_id(*names, "score", said.name),
        **_value(said.evaluation),
    )


def run_event(run: Run, names: Sequence[str | int], at_ns: int, **payload: Any) -> bytes:
    """An event about a run, with the id that these names give."""
    return _event(run[0], event_id(*run, *names), at_ns, **payload)


def usage_of(tried: Tried) -> ExperimentUsage:
    """What the task used."""
    if tried.reply is None or not tried.reply.usage:
        return ExperimentUsage()
    sent, produced, _ = totals(dict(tried.reply.usage))
    cost = cost_of(tried.reply.model, tried.reply.usage)
    return ExperimentUsage(
        input_tokens=sent, output_tokens=produced, cost_picodollars=None if cost is None else total_cost(cost)
    )


def record_of(event: bytes) -> Record:
    """Where an event belongs in the log."""
    told = Event.FromString(event)
    project = f"{told.project_id}/".encode()
    match told.WhichOneof("payload"):
        case "spans_recorded":
            spans = ExportTraceServiceRequest.FromString(decompress(COMPRESSION_ZSTD, told.spans_recorded.otlp_request))
            trace = spans.resource_spans[0].scope_spans[0].spans[0].trace_id
            return Record(TRACES, project + trace, event)
        case "score_recorded":
            target = told.score_recorded.target
            return Record(SCORES, project + (target.trace_id or target.run_id.encode()), event)
        case "experiment_item_finished":
            return Record(EXPERIMENTS, project + told.experiment_item_finished.run_id.encode(), event)
        case _:
            return Record(EXPERIMENTS, project + told.experiment_finished.run_id.encode(), event)


def stamp(unix_ns: int) -> Timestamp:
    """As the contract has it."""
    told = Timestamp()
    told.FromNanoseconds(unix_ns)
    return told


def _spans(opened: Opened, item: Item, tried: Tried, at_ns: int) -> bytes:
    names = (*opened.run, item.item_id, item.repetition)
    event = b""
    for longest in _CONTENT_SIZES:
        request = trace_of(opened, item, tried, version=_version(), longest=longest)
        count = len(request.resource_spans[0].scope_spans[0].spans)
        block = compress(request.SerializeToString(deterministic=True))
        recorded = SpansRecorded(otlp_request=block, compression=COMPRESSION_ZSTD, span_count=count)
        event = _event(opened.run[0], event_id(*names, "spans"), at_ns, spans_recorded=recorded)
        if len(event) <= MAX_VALUE_BYTES:
            break
    return event


def _fitting(project_id: str, names: Sequence[str | int], finished: ExperimentItemFinished, at_ns: int) -> bytes:
    """The result as the read model takes it; with less beside it, should it not, and as an error rather than never."""
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


def _event(project_id: str, identity: str, at_ns: int, **payload: Any) -> bytes:
    event = Event(
        event_id=identity,
        project_id=project_id,
        occurred_at=stamp(at_ns),
        received_at=stamp(at_ns),
        producer=Producer(name="lodestream-evaluator", version=_version()),
        **payload,
    )
    return event.SerializeToString(deterministic=True)


def _value(evaluation: Evaluation) -> dict[str, Any]:
    """The value under the contract's name for its type."""
    match evaluation.data_type:
        case "BOOLEAN":
            return {"boolean": bool(evaluation.value)}
        case "NUMERIC":
            return {"numeric": float(evaluation.value)}
        case "TEXT":
            return {"text": str(evaluation.value)}
        case _:
            return {"categorical": str(evaluation.value)}


def _metadata(evaluation: Evaluation) -> str:
    if not evaluation.metadata:
        return ""
    return _encodable(json.dumps(evaluation.metadata, ensure_ascii=False, default=str))


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _told(error: str) -> str:
    """No NUL character, and not too much."""
    return _encodable(error).replace("\0", "\N{REPLACEMENT CHARACTER}")[:_MAX_ERROR]


def _version() -> str:
    return code_version().split()[-1]
