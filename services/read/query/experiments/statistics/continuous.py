"""Numbers and shares: the difference of means and its sign-flip test; where few items make the mean, Wilcoxon's."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from services.read.query.experiments.statistics.finding import Finding, Rules
from services.read.query.experiments.statistics.pairing import mean
from services.read.query.experiments.statistics.power import (
    items_by_interval,
    items_for_mean,
    smallest_by_interval,
    smallest_mean,
)

Numbers = NDArray[np.float64]
EXACT_UP_TO = 15
"""Items that differ, up to which all sign flips are gone through."""
FLIPPED_UP_TO = 300
"""Beyond so many that differ the mean's distribution is normal by far more than resampling could tell: Student's t."""
_MIN_FLIPS, _MAX_FLIPS = 9_999, 99_999
_BCA_UP_TO, _MAX_DRAWS = 1_000, 20_000_000
_BATCH = 1_000_000
_HEAVY_FROM = 20
_ALIKE = 1e-9
_HALVINGS = 45


def compare_numbers(differences: Sequence[float], rules: Rules, *, by_rank: bool) -> Finding:
    """Compare two runs by the differences run - baseline of their pairs; where they are too few, without a test.

    `by_rank` has Wilcoxon's test made where a few items differ so much that the mean is theirs alone.
    """
    numbers = np.asarray(differences, dtype=np.float64)
    largest = float(np.max(np.abs(numbers)))
    if not math.isfinite(largest):
        return Finding("", None, remark="its values are too far apart to be reckoned with")
    scale = 2.0 ** math.frexp(largest)[1] if 0 < largest < 1e300 else max(largest, 1.0)
    scaled: Numbers = numbers / scale
    if by_rank and heavy(scaled):
        return _enlarged(compare_ranks(scaled, rules), scale)
    return _enlarged(_compare_means(scaled, rules), scale)


def heavy(differences: Numbers) -> bool:
    """Return whether a twentieth of the items that differ makes up more than half of the squared differences.

    Of normal differences an eighth does, of Laplace's a fourteenth. Only sizes are looked at, never signs: where
    nothing differs signs are random at any sizes, so that choosing the test by this favours neither run and keeps the
    level of either test.
    """
    squares = np.sort(differences[differences != 0] ** 2)[::-1]
    return len(squares) >= _HEAVY_FROM and bool(np.sum(squares[: len(squares) // 20]) > np.sum(squares) / 2)


def _compare_means(differences: Numbers, rules: Rules) -> Finding:
    pairs, differing = len(differences), differences[differences != 0]
    difference = mean(differences.tolist())
    if not len(differing):
        return Finding("paired permutation", 1.0, 0.0, informative=False)
    if pairs < rules.least_pairs:
        return Finding("", None, difference)
    test, p_value = _sign_flips(differences, differing, rules)
    if _alike(differences):
        remark = "Every item differs by the same amount, so there is no interval."
        return Finding(test, p_value, difference, remark=remark, needed=rules.least_pairs)
    deviation = float(np.std(differences, ddof=1))
    return Finding(
        test,
        p_value,
        difference,
        _interval(differences, len(differing), rules),
        "Cohen's dz",
        difference / deviation,
        smallest_mean(deviation, pairs, rules),
        items_for_mean(difference / deviation, rules),
    )


def _sign_flips(differences: Numbers, differing: Numbers, rules: Rules) -> tuple[str, float]:
    """Return the test's name and p-value. Items that do not differ have no sign to flip."""
    if _alike(np.abs(differing)):  # all sizes the same: flips are counted, not summed
        p_value = stats.binomtest(int(np.sum(differing > 0)), len(differing)).pvalue
        return "paired permutation, exact", float(p_value)
    if len(differing) > FLIPPED_UP_TO:
        return "paired t", float(stats.ttest_1samp(differences, 0).pvalue)
    exact = len(differing) <= EXACT_UP_TO
    result = stats.permutation_test(
        (differing,),
        _mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**EXACT_UP_TO if exact else _flips(rules),
        batch=max(1, _BATCH // len(differing)),
        rng=np.random.default_rng(rules.seed),
    )
    return "paired permutation, exact" if exact else "paired permutation", min(1.0, float(result.pvalue))


def _interval(differences: Numbers, differing: int, rules: Rules) -> tuple[float, float] | None:
    """Return the mean's interval: Student's where the test is, else by bootstrap (BCa; percentiles for many)."""
    pairs = len(differences)
    if differing > FLIPPED_UP_TO:
        interval = stats.ttest_1samp(differences, 0).confidence_interval(rules.confidence)
        return float(interval.low), float(interval.high)
    for method in ("BCa", "percentile") if pairs <= _BCA_UP_TO else ("percentile",):
        interval = stats.bootstrap(
            (differences,),
            _mean,
            method=method,
            vectorized=True,
            confidence_level=rules.confidence,
            n_resamples=min(rules.resamples, _MAX_DRAWS // pairs),
            batch=max(1, _BATCH // pairs),
            rng=np.random.default_rng(rules.seed),
        ).confidence_interval
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            return float(interval.low), float(interval.high)
    return None


def _flips(rules: Rules) -> int:
    """Return how many flips resolve the smallest p-value that matters, after the correction too."""
    return min(_MAX_FLIPS, max(_MIN_FLIPS, math.ceil(8 * rules.tests / rules.alpha)))


def _alike(values: Numbers) -> bool:
    return bool(np.max(values) - np.min(values) <= _ALIKE * np.max(np.abs(values)))


def _mean(values: Numbers, axis: int) -> Any:
    return np.mean(values, axis=axis)


def _enlarged(finding: Finding, scale: float) -> Finding:
    """Return a finding in the units of the values."""
    return replace(
        finding,
        difference=None if finding.difference is None else finding.difference * scale,
        interval=finding.interval and (finding.interval[0] * scale, finding.interval[1] * scale),
        smallest=None if finding.smallest is None else finding.smallest * scale,
    )


def compare_ranks(differences: Numbers, rules: Rules) -> Finding:
    """Make Wilcoxon's signed-rank test, with the Hodges-Lehmann estimate and its interval.

    The interval holds the shifts that are not rejected. Items that do not differ are ranked and then left out (J. W.
    Pratt, "Remarks on Zeros and Ties in the Wilcoxon Signed Rank Procedures", JASA 54, 1959, 655-667): many that stay
    as they are speak for no difference.
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
    """Return the sum of the ranks of the positive differences."""
    result = stats.wilcoxon(differences, zero_method="pratt", alternative="greater", method="asymptotic")
    return float(result.statistic)


def _middle(differences: Numbers) -> float:
    """Return the Hodges-Lehmann estimate: the shift after which the ranks of both signs are in balance."""
    low, high = float(np.min(differences)), float(np.max(differences))

    def excess(shift: float) -> float:
        shifted = differences - shift
        if not np.any(shifted):
            return 0.0
        # Asked for one side: of two, SciPy gives the negative z whichever side prevails.
        result = stats.wilcoxon(shifted, zero_method="pratt", alternative="greater", method="asymptotic")
        return float(result.zstatistic)

    # In balance from one shift to another when the pairs' means leave a gap: its middle.
    first = _end(lambda shift: excess(shift) > 0, low, high)
    last = _end(lambda shift: excess(shift) >= 0, low, high)
    return (first + last) / 2


def _end(holds: Callable[[float], bool], true_at: float, false_at: float) -> float:
    """Return where a condition that holds at one end ceases to hold."""
    if holds(false_at):
        return false_at
    for _ in range(_HALVINGS):
        middle = (true_at + false_at) / 2
        true_at, false_at = (middle, false_at) if holds(middle) else (true_at, middle)
    return (true_at + false_at) / 2
