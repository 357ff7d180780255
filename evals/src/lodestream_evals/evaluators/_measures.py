"""What evaluators of runs look at: an evaluation by its name, or the latency or cost of each item."""

from collections.abc import Sequence
from dataclasses import dataclass

from lodestream_evals.evaluation import Evaluation
from lodestream_evals.evaluators._errors import EvaluatorError
from lodestream_evals.evaluators._evaluator import Judged

LATENCY, COST = "latency", "cost"


@dataclass(frozen=True, slots=True)
class Measure:
    """A number of an item: what an evaluation says, true being 1; or the item's latency or cost."""

    result: Judged
    number: float
    comment: str = ""


def measures(results: Sequence[Judged], of: str) -> list[Measure]:
    """Of the items that have one. Raises EvaluatorError when none has."""
    measured = [measure for result in results if (measure := _measure(result, of)) is not None]
    if not measured:
        failed = sum(of in result.errors for result in results)
        why = f"its evaluator failed on {failed}" if failed else "none was told"
        raise EvaluatorError(f"none of {len(results)} items has a number {of!r}: {why}")
    return measured


def without(results: Sequence[Judged], measured: Sequence[Measure]) -> str:
    """How many have none, for a reason."""
    missing = len(results) - len(measured)
    return f"; {missing} of {len(results)} items have none" if missing else ""


def evaluation_of(result: Judged, name: str) -> Evaluation | None:
    """The evaluation of this name."""
    return next((evaluation for evaluation in result.evaluations if evaluation.name == name), None)


def _measure(result: Judged, of: str) -> Measure | None:
    evaluation = evaluation_of(result, of)
    if evaluation is not None:
        value = evaluation.value
        return None if isinstance(value, str) else Measure(result, float(value), evaluation.comment or "")
    known = {LATENCY: result.case.latency_seconds, COST: result.case.cost_usd}.get(of)
    return None if known is None else Measure(result, float(known))
