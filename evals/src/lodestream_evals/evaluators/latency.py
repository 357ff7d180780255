"""How many seconds the task took. With `max`, whether that is quick enough."""

from lodestream_evals.evaluators._errors import EvaluatorError
from lodestream_evals.evaluators._evaluator import Case, Judging, Kind, Tools, Verdict
from lodestream_evals.evaluators._settings import Bounds
from lodestream_evals.evaluators._spec import Spec


def read(spec: Spec) -> Judging:
    """Settings: `max`, in seconds."""
    bounds = Bounds(most=spec.number("max", None, least=0))

    def judge(case: Case, _: Tools) -> Verdict:
        if case.latency_seconds is None:
            raise EvaluatorError("the latency is not known")
        return bounds.verdict(case.latency_seconds, f"{case.latency_seconds:.3f} s")

    return Judging(judge, bounds.value_type)


KIND = Kind("latency", 1, read, judges_failures=True)
