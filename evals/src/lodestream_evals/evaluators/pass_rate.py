"""The share of items that pass, from 0 to 1. An item that failed, or that has no evaluation, does not pass."""

from collections.abc import Sequence

from lodestream_evals.evaluators._errors import EvaluatorError, EvaluatorSpecError
from lodestream_evals.evaluators._evaluator import Judged, RunJudging, RunKind, Verdict
from lodestream_evals.evaluators._measures import evaluation_of
from lodestream_evals.evaluators._settings import Bounds
from lodestream_evals.evaluators._spec import MAX_NAME, Spec

_LISTED = 20


def read(spec: Spec) -> RunJudging:
    """Settings: `of`, `threshold`, `passing`, `min` (of the share).

    An item passes by the evaluation `of`: when it is true; when its number is at least `threshold`; when its category
    is one of `passing`. Without `of`, when all of the item's booleans are true.
    """
    of, threshold = spec.text("of", None, most=MAX_NAME), spec.number("threshold", None)
    passing = spec.texts("passing")
    bounds = Bounds(least=spec.number("min", None, least=0, most=1))
    if of is None and (threshold is not None or passing):
        raise EvaluatorSpecError("of", "is missing: the evaluation that threshold or passing is about")

    def judge(results: Sequence[Judged]) -> Verdict:
        if not results:
            raise EvaluatorError("the run has no items")
        verdicts = [_passes(result, of, threshold, passing) for result in results]
        if all(verdict is None and not result.case.error for verdict, result in zip(verdicts, results, strict=True)):
            raise EvaluatorError(f"no item has {'a truth' if of is None else repr(of)} to pass by")
        failed = [result.item_id for verdict, result in zip(verdicts, results, strict=True) if not verdict]
        passed, total = len(results) - len(failed), len(results)
        summary = f"{passed} of {total} items pass ({passed / total:.1%})"
        return bounds.verdict(
            passed / total, summary, {"passed": passed, "total": total, "failed_items": failed[:_LISTED]}
        )

    return RunJudging(judge, bounds.value_type)


def _passes(result: Judged, of: str | None, threshold: float | None, passing: Sequence[str]) -> bool | None:
    """None: there is nothing to pass by."""
    if result.case.error:
        return False
    if of is None:
        booleans = [evaluation.value for evaluation in result.evaluations if evaluation.data_type == "BOOLEAN"]
        if result.errors:
            return False
        return all(booleans) if booleans else None
    evaluation = evaluation_of(result, of)
    if evaluation is None:
        return False if of in result.errors else None
    value = evaluation.value
    if isinstance(value, str):
        return value in passing
    return value >= threshold if threshold is not None else value == 1


KIND = RunKind("pass_rate", 1, read)
