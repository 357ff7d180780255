"""Categories: whether they are as frequent in one run as in the other."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.sparse import csgraph, csr_array
from statsmodels.stats.contingency_tables import SquareTable, mcnemar

from services.read.query.experiments.statistics.finding import Finding, Rules

Numbers = NDArray[np.float64]
APPROXIMATE_FROM = 25
"""Items that changed, from which the chi-square distribution is near enough."""
_EXACT_UP_TO, _FLIPS, _BATCH = 15, 9_999, 1_000_000


def compare_categories(baseline: Sequence[str], run: Sequence[str], rules: Rules) -> Finding:
    """Test marginal homogeneity: that all categories are as frequent in both runs, whichever items have them."""
    changed = [change for change in zip(baseline, run, strict=True) if change[0] != change[1]]
    names = sorted({name for change in changed for name in change})
    if not changed:
        return Finding("Stuart-Maxwell", 1.0, informative=False)
    table = np.zeros((len(names), len(names)))
    column_of = {name: n for n, name in enumerate(names)}
    for before, after in changed:
        table[column_of[before], column_of[after]] += 1
    if len(names) == 2:
        return Finding("McNemar, exact", float(mcnemar(table, exact=True).pvalue))
    if len(changed) < APPROXIMATE_FROM:
        return _by_exchange(changed, column_of, rules)
    statistic, freedom = stuart_maxwell(table)
    return Finding("Stuart-Maxwell", float(stats.chi2.sf(statistic, freedom)))


def stuart_maxwell(table: Numbers) -> tuple[float, int]:
    """Return the statistic of Stuart and Maxwell and its degrees of freedom.

    A. Stuart, "A Test for Homogeneity of the Marginal Distributions in a Two-Way Classification", Biometrika 42, 1955,
    412-416; A. E. Maxwell, "Comparing the Classification of Subjects by Two Independent Judges", British Journal of
    Psychiatry 116, 1970, 651-655.

    Categories between which nothing moves, even by way of others, are apart: taken together they would leave the
    covariances without an inverse.
    """
    moving = np.flatnonzero(table.sum(0) + table.sum(1) - 2 * table.diagonal())
    table = table[np.ix_(moving, moving)]
    groups, group_of = csgraph.connected_components(csr_array(table), directed=False)
    parts = [np.flatnonzero(group_of == group) for group in range(groups)]
    tests = [SquareTable(table[np.ix_(part, part)], shift_zeros=False).homogeneity() for part in parts]
    return float(sum(each.statistic for each in tests)), int(sum(each.df for each in tests))


def _by_exchange(changed: Sequence[tuple[str, str]], column_of: Mapping[str, int], rules: Rules) -> Finding:
    """Test marginal homogeneity of few changes by permutation: each might as well have gone the other way."""
    away, to = (np.eye(len(column_of))[[column_of[names[side]] for names in changed]] for side in (0, 1))
    steps = to - away
    touched = np.abs(steps).sum(0)

    def unrest(signs: Numbers, axis: int) -> Any:
        return np.sum((np.moveaxis(signs, axis, -1) @ steps) ** 2 / touched, axis=-1)

    exact = len(steps) <= _EXACT_UP_TO
    result = stats.permutation_test(
        (np.ones(len(steps)),),
        unrest,
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**_EXACT_UP_TO if exact else _FLIPS,
        batch=_BATCH // len(steps),
        alternative="greater",
        rng=np.random.default_rng(rules.seed),
    )
    return Finding("marginal homogeneity by permutation" + (", exact" if exact else ""), float(result.pvalue))
