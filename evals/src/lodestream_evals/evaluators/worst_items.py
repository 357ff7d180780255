"""The mean of the worst items, and which they are: where to look first."""

import math
from collections.abc import Sequence

from lodestream_evals.evaluators._evaluator import Judged, RunJudging, RunKind, Verdict
from lodestream_evals.evaluators._measures import COST, LATENCY, Measure, measures, without
from lodestream_evals.evaluators._spec import MAX_NAME, Spec

_LISTED, _COMMENT = 10, 200  # items in the reason, characters of each comment


def read(spec: Spec) -> RunJudging:
    """Settings: `of` (an evaluation's name, latency or cost), `count` (default 5), `lower_is_better`.

    Of latency and cost, less is better. Items that are as bad as each other come by their ids.
    """
    of, count = spec.text("of", most=MAX_NAME), spec.whole("count", 5, least=1, most=20)
    lower_is_better = spec.flag("lower_is_better", default=of in (LATENCY, COST))

    def judge(results: Sequence[Judged]) -> Verdict:
        measured = measures(results, of)
        sign = -1 if lower_is_better else 1
        worst = sorted(measured, key=lambda measure: sign * measure.number)[:count]
        value = math.fsum(measure.number for measure in worst) / len(worst)
        listed = "; ".join(map(_described, worst[:_LISTED]))
        summary = f"the worst of {of}: {listed}{without(results, measured)}"
        return Verdict(value, summary, {"items": [_kept(measure) for measure in worst]})

    return RunJudging(judge, "NUMERIC")


def _described(measure: Measure) -> str:
    comment = f" ({measure.comment[:_COMMENT]})" if measure.comment else ""
    return f"{measure.result.item_id or 'an item'} {measure.number:.6g}{comment}"


def _kept(measure: Measure) -> dict[str, str | float]:
    return {
        "item_id": measure.result.item_id,
        "repetition": measure.result.repetition,
        "value": measure.number,
        "comment": measure.comment[: _COMMENT // 2],
    }


KIND = RunKind("worst_items", 1, read)
