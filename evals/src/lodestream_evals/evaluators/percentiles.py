"""A percentile of an evaluation, of the latency or of the cost, over the items that have one; the usual ones beside it.

Between two items it is interpolated linearly, as numpy does. With bounds, whether it keeps to them.
"""

import math
from collections.abc import Sequence

from lodestream_evals.evaluators._evaluator import Judged, RunJudging, RunKind, Verdict
from lodestream_evals.evaluators._measures import measures, without
from lodestream_evals.evaluators._settings import bounds_setting
from lodestream_evals.evaluators._spec import MAX_NAME, Spec

_USUAL = (50, 90, 95, 99)


def read(spec: Spec) -> RunJudging:
    """Settings: `of` (an evaluation's name, latency or cost), `percentile` (0 to 100, default 95), `min`, `max`."""
    of, bounds = spec.text("of", most=MAX_NAME), bounds_setting(spec, least=-math.inf)
    wanted = spec.number("percentile", 95, least=0, most=100)

    def judge(results: Sequence[Judged]) -> Verdict:
        measured = measures(results, of)
        numbers = sorted(measure.number for measure in measured)
        usual = {f"p{each}": percentile(numbers, each) for each in _USUAL}
        value = percentile(numbers, wanted)
        summary = (
            f"the percentile {wanted:g} of {of} is {value:.6g} over {len(measured)} items{without(results, measured)}"
        )
        return bounds.verdict(
            value, summary, {**usual, "least": numbers[0], "most": numbers[-1], "count": len(numbers)}
        )

    return RunJudging(judge, bounds.value_type)


def percentile(numbers: Sequence[float], wanted: float) -> float:
    """Of numbers in order, at least one."""
    place = (len(numbers) - 1) * wanted / 100
    below = math.floor(place)
    above = min(below + 1, len(numbers) - 1)
    return numbers[below] + (numbers[above] - numbers[below]) * (place - below)


KIND = RunKind("percentiles", 1, read)
