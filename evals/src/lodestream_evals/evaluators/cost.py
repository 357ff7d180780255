"""What the task cost, in US dollars. With `max`, whether that is little enough."""

from lodestream_evals.evaluators._errors import EvaluatorError
from lodestream_evals.evaluators._evaluator import Case, Judging, Kind, Tools, Verdict
from lodestream_evals.evaluators._settings import Bounds
from lodestream_evals.evaluators._spec import Spec


def read(spec: Spec) -> Judging:
    """Settings: `max`, in US dollars."""
    bounds = Bounds(most=spec.number("max", None, least=0))

    def judge(case: Case, _: Tools) -> Verdict:
        if case.cost_usd is None:
            raise EvaluatorError("the cost is not known: no price is known of the model, or no tokens of the call")
        return bounds.verdict(case.cost_usd, f"${case.cost_usd:.6f}")

    return Judging(judge, bounds.value_type)


KIND = Kind("cost", 1, read, judges_failures=True)
