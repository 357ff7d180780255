"""What came of items, from and to the contract's messages."""

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1 import experiment_event_pb2 as pb
from lodestream_proto.v1.event_pb2 import Event, Producer

from lodestream._evaluation import MAX_COMMENT, Evaluation
from lodestream._experiments.judgement import Judgement
from lodestream._experiments.rows import Row
from lodestream._experiments.storable import storable_json, storable_object, storable_text
from lodestream._ids import new_event_id
from lodestream._recording.fields import Shown
from lodestream._results import ItemResult
from lodestream._version import SDK_NAME, __version__

_MAX_BYTES = 1_500_000  # of an item that finished; the log takes a little more
_LEFT_OUT = ("metadata_json", "expected_output_json", "input_json", "output_json")
_PICODOLLARS = 1e12
_MAX_ERROR, _MAX_TOKENS, _MAX_USD = 16_000, 10**12, 1e6
_MAX_LEFT_COMMENT = 200


def event_of(**payload: Any) -> bytes:
    """An Event that happened now, encoded."""
    now = Timestamp()
    now.GetCurrentTime()
    producer = Producer(name=SDK_NAME, version=__version__)
    return Event(event_id=new_event_id(), occurred_at=now, producer=producer, **payload).SerializeToString()


def result_message(result: ItemResult, run_id: str, shown: Shown, *, with_item: bool) -> pb.ExperimentItemFinished:
    """`with_item`: also what it was, which the server does not know otherwise."""
    message = pb.ExperimentItemFinished(
        run_id=run_id,
        item_id=result.item_id,
        repetition=result.repetition,
        trace_id=bytes.fromhex(result.trace_id),
        output_json="" if result.error else storable_json(shown(result.output, "output")),
        error=storable_text(shown(result.error, "error"), _MAX_ERROR) if result.error else "",
        started_at=_timestamp(result.started_at),
        ended_at=_timestamp(result.started_at + dt.timedelta(seconds=result.latency)),
        usage=usage_message(result),
        evaluations=[judgement_message(each, shown) for each in result.judgements],
        attempts=1,
    )
    if with_item:
        message.input_json = storable_json(shown(result.input, "input"))
        if result.expected_output is not None:
            message.expected_output_json = storable_json(shown(result.expected_output, "expected_output"))
        message.metadata_json = storable_object(shown(result.metadata, "metadata"))
    return _bounded(message)


def result_from(message: pb.ExperimentItemFinished, row: Row) -> ItemResult:
    """An item that was done before."""
    began, ended = message.started_at.ToDatetime(dt.UTC), message.ended_at.ToDatetime(dt.UTC)
    cost = message.usage.cost_picodollars / _PICODOLLARS if message.usage.HasField("cost_picodollars") else None
    return ItemResult(
        item=row.given,
        item_id=message.item_id,
        repetition=message.repetition,
        input=row.input,
        expected_output=row.expected_output,
        metadata=row.metadata,
        output=json.loads(message.output_json) if message.output_json else None,
        error=message.error,
        judgements=[judgement_from(each) for each in message.evaluations],
        trace_id=message.trace_id.hex(),
        started_at=began,
        latency=(ended - began).total_seconds(),
        input_tokens=message.usage.input_tokens,
        output_tokens=message.usage.output_tokens,
        cost_usd=cost,
    )


def judgement_message(judgement: Judgement, shown: Shown) -> pb.ItemEvaluation:
    """What an evaluator said, or that it failed."""
    told = pb.ItemEvaluation(name=judgement.name, evaluator_version=judgement.revision, score_id=judgement.score_id)
    said = judgement.evaluation
    if said is None:
        told.error = storable_text(shown(judgement.error, "error"), MAX_COMMENT) or "it failed"
        return told
    told.comment = storable_text(shown(said.comment, "comment"), MAX_COMMENT) if said.comment else ""
    told.metadata_json = storable_object(shown(said.metadata, "metadata"))
    if said.data_type == "BOOLEAN":
        told.boolean = bool(said.value)
    elif said.data_type == "NUMERIC":
        told.numeric = float(said.value)
    elif said.data_type == "TEXT":
        told.text = str(shown(said.value, "value"))
    else:
        told.categorical = str(said.value)
    return told


def judgement_from(message: pb.ItemEvaluation) -> Judgement:
    """The judgement that a message is."""
    kind = message.WhichOneof("value")
    beside: dict[str, Any] = {"name": message.name, "revision": message.evaluator_version, "score_id": message.score_id}
    if kind is None or kind == "error":
        return Judgement(error=message.error or "nothing was said", **beside)
    evaluation = Evaluation(
        name=message.name,
        value=getattr(message, kind),
        comment=message.comment or None,
        metadata=json.loads(message.metadata_json) if message.metadata_json else None,
        data_type="TEXT" if kind == "text" else None,
    )
    return Judgement(evaluation=evaluation, **beside)


def finished_of(run_id: str, judgements: Sequence[Judgement], shown: Shown) -> pb.ExperimentFinished:
    """That every item has its result."""
    return pb.ExperimentFinished(
        run_id=run_id,
        outcome=pb.EXPERIMENT_OUTCOME_COMPLETED,
        evaluations=[judgement_message(each, shown) for each in judgements],
    )


def usage_message(result: ItemResult) -> pb.ExperimentUsage:
    """What the task used."""
    usage = pb.ExperimentUsage(
        input_tokens=min(result.input_tokens, _MAX_TOKENS), output_tokens=min(result.output_tokens, _MAX_TOKENS)
    )
    if result.cost_usd is not None and result.cost_usd <= _MAX_USD:
        usage.cost_picodollars = round(result.cost_usd * _PICODOLLARS)
    return usage


def _timestamp(instant: dt.datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(instant)
    return stamp


def _bounded(message: pb.ExperimentItemFinished) -> pb.ExperimentItemFinished:
    """Without its largest texts where it would be more than the log takes: they are in the trace."""
    for field in _LEFT_OUT:
        if (size := message.ByteSize()) <= _MAX_BYTES:
            break
        text = getattr(message, field)
        if len(text) > 10_000:
            note = f"left out: {size} bytes are too many"
            setattr(message, field, json.dumps({"note": note} if field == "metadata_json" else note))
    if message.ByteSize() > _MAX_BYTES:
        for evaluation in message.evaluations:
            evaluation.comment, evaluation.metadata_json = evaluation.comment[:_MAX_LEFT_COMMENT], ""
    return message
