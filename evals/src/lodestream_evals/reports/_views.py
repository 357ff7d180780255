"""Items of runs as the reports show them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lodestream_proto.v1.experiment_event_pb2 import ExperimentItemFinished, ItemEvaluation
from lodestream_proto.v1.experiments_pb2 import ExperimentItem

from lodestream_evals.reports._readable import readable
from lodestream_evals.reports._units import Kind, number


@dataclass(frozen=True, slots=True)
class Judgement:
    """The outcome of one evaluator for an item."""

    name: str
    kind: Kind
    number: float | None
    """Of numbers and booleans (true is 1)."""
    words: str
    """The value in words."""
    comment: str
    error: str
    """The evaluator failed: why."""

    @property
    def missed(self) -> bool:
        """A check that the item did not pass."""
        return self.kind is Kind.SHARE and self.number == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemView:
    """One repetition of an item, in people's words."""

    run_id: str
    item_id: str
    repetition: int
    trace_id: str
    input: str
    expected: str
    output: str
    error: str
    metadata_json: str
    seconds: float | None
    usd: float | None
    attempts: int
    judgements: tuple[Judgement, ...]

    @property
    def missed(self) -> tuple[Judgement, ...]:
        """The checks it did not pass, and the evaluators that failed on it."""
        return tuple(its for its in self.judgements if its.missed or its.error)

    def judgement(self, name: str) -> Judgement | None:
        """Return the judgement of a name; None where there is none."""
        return next((its for its in self.judgements if its.name == name), None)


def view(item: ExperimentItem) -> ItemView:
    """The item in people's words."""
    result = item.result
    return ItemView(
        run_id=result.run_id,
        item_id=result.item_id,
        repetition=result.repetition,
        trace_id=result.trace_id.hex(),
        input=readable(item.item.input_json or result.input_json),
        expected=readable(item.item.expected_output_json or result.expected_output_json),
        output=readable(result.output_json),
        error=result.error,
        metadata_json=item.item.metadata_json or result.metadata_json,
        seconds=_seconds(result),
        usd=result.usage.cost_picodollars / 1e12 if result.usage.HasField("cost_picodollars") else None,
        attempts=result.attempts,
        judgements=tuple(map(judgement, result.evaluations)),
    )


def judgement(evaluation: ItemEvaluation) -> Judgement:
    """The evaluation in people's words."""
    kind, value, words = Kind.TEXT, None, ""
    match evaluation.WhichOneof("value"):
        case "numeric":
            kind, value, words = _numeric(evaluation.name), evaluation.numeric, number(evaluation.numeric)
        case "boolean":
            kind, value, words = Kind.SHARE, float(evaluation.boolean), "true" if evaluation.boolean else "false"
        case "categorical":
            kind, words = Kind.CATEGORY, evaluation.categorical
        case "text":
            words = evaluation.text
        case "error":
            words = "failed"
    return Judgement(evaluation.name, kind, value, words, evaluation.comment, evaluation.error)


def kind_of(name: str, *, boolean: bool, categorical: bool) -> Kind:
    """Return what the numbers of a metric are, by what is known of its values."""
    if boolean:
        return Kind.SHARE
    return Kind.CATEGORY if categorical else _numeric(name)


def of_run(items: Iterable[ItemView], run_id: str) -> list[ItemView]:
    """Those of this run; one that names none is taken to be of it."""
    return [item for item in items if item.run_id in {"", run_id}]


def pick(repetitions: Sequence[ItemView], metric: str, *, highest: bool) -> ItemView | None:
    """The repetition that shows the case best: the one with the highest or the lowest value; a failed one is lowest."""

    def value(item: ItemView) -> float:
        if item.error:
            return float("-inf")
        if metric == "latency":
            return item.seconds or 0
        if metric == "cost":
            return item.usd or 0
        metric_judgement = item.judgement(metric)
        return metric_judgement.number if metric_judgement and metric_judgement.number is not None else 0

    if not repetitions:
        return None
    return max(repetitions, key=value) if highest else min(repetitions, key=value)


def _numeric(name: str) -> Kind:
    return {"latency": Kind.SECONDS, "cost": Kind.USD}.get(name, Kind.NUMBER)


def _seconds(result: ExperimentItemFinished) -> float | None:
    if not (result.HasField("started_at") and result.HasField("ended_at")):
        return None
    return max(result.ended_at.ToNanoseconds() - result.started_at.ToNanoseconds(), 0) / 1e9
