"""Differences of which few are so large that the mean is theirs: Wilcoxon's signed ranks and what belongs to them."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from services.read.query.experiments.statistics.finding import Finding, Rules
from services.read.query.experiments.statistics.power import items_by_interval, smallest_by_interval

Numbers = NDArray[np.float64]
_HALVINGS = 45


def compare_ranks(differences: Numbers, rules: Rules) -> Finding:
    """Wilcoxon's signed-rank test, the Hodges-Lehmann estimate, and as its interval the shifts that are not rejected.

    Items that do not differ are ranked and then left out (Pratt): many that stay as they are speak for no difference.
    """
    estimate = _middle(differences)

    def kept(shift: float) -> bool:
        return _p_value(differences, shift) > rules.alpha

    interval = (
        _end(kept, estimate, float(np.min(differences))),
        _end(kept, estimate, float(np.max(differences))),
    )
    ups, downs = _rank_sum(differences), _rank_sum(-differences)
    smallest = smallest_by_interval(interval, rules) or None
    return Finding(
        "Wilcoxon signed-rank",
        _p_value(differences, 0.0),
        estimate,
        interval,
        "matched-pairs rank-biserial correlation",
        (ups - downs) / (ups + downs),
        smallest,
        items_by_interval(estimate, smallest, len(differences)) if smallest else None,
        typical=True,
        remark="A few items differ so much that the means are theirs: the difference is that of the typical item.",
    )


def _p_value(differences: Numbers, shift: float) -> float:
    shifted = differences - shift
    return float(stats.wilcoxon(shifted, zero_method="pratt").pvalue) if np.any(shifted) else 1.0


def _rank_sum(differences: Numbers) -> float:
    """Of the positive ones."""
    found = stats.wilcoxon(differences, zero_method="pratt", alternative="greater", method="asymptotic")
    return float(found.statistic)


def _middle(differences: Numbers) -> float:
    """The Hodges-Lehmann estimate: the shift after which the ranks of both signs are in balance."""
    low, high = float(np.min(differences)), float(np.max(differences))

    def excess(shift: float) -> float:
        shifted = differences - shift
        if not np.any(shifted):
            return 0.0
        # Asked for one side: of two, SciPy gives the negative z whichever side prevails.
        found = stats.wilcoxon(shifted, zero_method="pratt", alternative="greater", method="asymptotic")
        return float(found.zstatistic)

    # In balance from one shift to another when the pairs' means leave a gap: its middle.
    first = _end(lambda shift: excess(shift) > 0, low, high)
    last = _end(lambda shift: excess(shift) >= 0, low, high)
    return (first + last) / 2


def _end(holds: Callable[[float], bool], true_at: float, false_at: float) -> float:
    """Where a condition that holds at one end ceases to."""
    if holds(false_at):
        return false_at
    for _ in range(_HALVINGS):
        middle = (true_at + false_at) / 2
        true_at, false_at = (middle, false_at) if holds(middle) else (true_at, middle)
    return (true_at + false_at) / 2
