"""Results of items, from and to the contract's messages."""

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_evals.evaluation import MAX_COMMENT, Evaluation
from lodestream_evals.items import value_field, value_in
from lodestream_evals.lenient_json import encodable, storable, to_json
from lodestream_proto.v1 import experiment_event_pb2 as pb
from lodestream_proto.v1.event_pb2 import Event, Producer

from lodestream._experiments.rows import Row
from lodestream._ids import new_event_id
from lodestream._recording.attributes import Shown
from lodestream._results import EvaluatorOutcome, ItemResult
from lodestream._version import SDK_NAME, __version__

# --- Values as the server stores them ---------------------------------------------------------------------------------
# Values as texts that the server takes, whatever they are: nothing that a task returns loses an item.

_MAX_DEPTH = 60
"""The server takes a few more lists and objects within each other."""
_MAX_OBJECT_BYTES = 60_000
"""Bytes of metadata at most; the server takes a little more."""
_CUT = "…"


def storable_text(value: Any, most: int) -> str:
    """A text of at most so many characters, without those that no database takes."""
    text = storable(str(value))
    return text if len(text) <= most else f"{text[: most - 1]}{_CUT}"


def storable_json(value: Any) -> str:
    """JSON text of any value; cut where it is too large or too deep."""
    text = encodable(to_json(value))
    twice: list[str] = []

    def entries(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries_by_key = dict(pairs)
        if len(entries_by_key) != len(pairs):  # 1 and "1" were keys
            twice.append(text)
        return entries_by_key

    try:
        read = json.loads(text, object_pairs_hook=entries)
        mended = _mended(read, 0)
    except (RecursionError, ValueError):
        return json.dumps(f"<{type(value).__name__} that can't be written as JSON>")
    return _dumped(mended) if twice or mended != read else text


def storable_object(value: Any) -> str:
    """JSON text of an object; "" for nothing. What is no mapping is its entry "metadata"; too large, it is left out."""
    if value is None or value == {}:
        return ""
    read = json.loads(storable_json(value))
    text = _dumped(_without_nul(read if isinstance(read, dict) else {"metadata": read}))
    size = len(text.encode())
    return text if size <= _MAX_OBJECT_BYTES else _dumped({"note": f"left out: {size} bytes are too many"})


def _mended(value: Any, depth: int) -> Any:
    """Without what is too deep."""
    if not isinstance(value, dict | list):
        return value
    if depth >= _MAX_DEPTH:
        return _CUT
    if isinstance(value, list):
        return [_mended(item, depth + 1) for item in value]
    return {name: _mended(item, depth + 1) for name, item in value.items()}


def _without_nul(value: Any) -> Any:
    """Return a value without NUL characters, which databases don't take."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    if isinstance(value, dict):
        return {_without_nul(name): _without_nul(item) for name, item in value.items()}
    return value


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# --- Messages ---------------------------------------------------------------------------------------------------------
# What came of items, from and to the contract's messages.

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
        evaluations=[evaluation_message(each, shown) for each in result.judgements],
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
        judgements=[outcome_from(each) for each in message.evaluations],
        trace_id=message.trace_id.hex(),
        started_at=began,
        latency=(ended - began).total_seconds(),
        input_tokens=message.usage.input_tokens,
        output_tokens=message.usage.output_tokens,
        cost_usd=cost,
    )


def evaluation_message(judgement: EvaluatorOutcome, shown: Shown) -> pb.ItemEvaluation:
    """What an evaluator said, or that it failed."""
    message = pb.ItemEvaluation(name=judgement.name, evaluator_version=judgement.revision, score_id=judgement.score_id)
    evaluation = judgement.evaluation
    if evaluation is None:
        message.error = storable_text(shown(judgement.error, "error"), MAX_COMMENT) or "it failed"
        return message
    message.comment = storable_text(shown(evaluation.comment, "comment"), MAX_COMMENT) if evaluation.comment else ""
    message.metadata_json = storable_object(shown(evaluation.metadata, "metadata"))
    for field, value in value_field(evaluation).items():
        setattr(message, field, str(shown(value, "value")) if field == "text" else value)
    return message


def outcome_from(message: pb.ItemEvaluation) -> EvaluatorOutcome:
    """The judgement that a message is."""
    beside: dict[str, Any] = {"name": message.name, "revision": message.evaluator_version, "score_id": message.score_id}
    if (stored := value_in(message)) is None:
        return EvaluatorOutcome(error=message.error or "nothing was said", **beside)
    value, data_type = stored
    evaluation = Evaluation(
        name=message.name,
        value=value,
        comment=message.comment or None,
        metadata=json.loads(message.metadata_json) if message.metadata_json else None,
        data_type=data_type,
    )
    return EvaluatorOutcome(evaluation=evaluation, **beside)


def finished_message(run_id: str, judgements: Sequence[EvaluatorOutcome], shown: Shown) -> pb.ExperimentFinished:
    """Return the message that every item has its result."""
    return pb.ExperimentFinished(
        run_id=run_id,
        outcome=pb.EXPERIMENT_OUTCOME_COMPLETED,
        evaluations=[evaluation_message(each, shown) for each in judgements],
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
