"""The mean of an evaluation, the latency or the cost over the items with one. With bounds, whether it keeps them."""

import math
from collections.abc import Sequence

from lodestream_evals.evaluators._evaluator import Judged, RunJudging, RunKind, Verdict
from lodestream_evals.evaluators._measures import measures, without
from lodestream_evals.evaluators._settings import bounds_setting
from lodestream_evals.evaluators._spec import MAX_NAME, Spec


def read(spec: Spec) -> RunJudging:
    """Settings: `of` (an evaluation's name, latency or cost), `min`, `max`."""
    of, bounds = spec.text("of", most=MAX_NAME), bounds_setting(spec, least=-math.inf)

    def judge(results: Sequence[Judged]) -> Verdict:
        measured = measures(results, of)
        value = math.fsum(measure.number for measure in measured) / len(measured)
        summary = f"the mean of {of} is {value:.6g} over {len(measured)} items{without(results, measured)}"
        return bounds.verdict(value, summary, {"count": len(measured)})

    return RunJudging(judge, bounds.value_type)


KIND = RunKind("mean", 1, read)
