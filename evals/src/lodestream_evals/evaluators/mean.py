"""The mean of an evaluation, the latency or the cost over the items with one. With bounds, whether it keeps them."""

import math
from collections.abc import Sequence

from lodestream_evals.evaluators._evaluator import Verdict
from lodestream_evals.evaluators._measures import measures, without
from lodestream_evals.evaluators._numbers import bounds_setting
from lodestream_evals.evaluators._run import Judged, RunJudging, RunKind
from lodestream_evals.evaluators._spec import MAX_NAME, Spec


def read(spec: Spec) -> RunJudging:
    """Settings: `of` (an evaluation's name, latency or cost), `min`, `max`."""
    of, bounds = spec.text("of", most=MAX_NAME), bounds_setting(spec, least=-math.inf)

    def judge(results: Sequence[Judged]) -> Verdict:
        found = measures(results, of)
        value = math.fsum(measure.number for measure in found) / len(found)
        told = f"the mean of {of} is {value:.6g} over {len(found)} items{without(results, found)}"
        return bounds.verdict(value, told, {"count": len(found)})

    return RunJudging(judge, bounds.value_type)


KIND = RunKind("mean", 1, read)
