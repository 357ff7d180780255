"""Power: the smallest difference that a comparison of some size shows, and the size that a difference takes."""

import math
from functools import lru_cache, partial

import numpy as np
from scipy import optimize, stats
from statsmodels.stats.power import TTestPower

from services.read.query.experiments.statistics.finding import POWER, Rules

_SMALL, _NOTHING = 0.01, 1e-6
"""Standardized differences: below the first the t distribution is the normal one; no dataset shows the second."""
_EXACT_UP_TO = 4_000
_FAR = 8.0
"""Standard deviations of the count of discordant pairs beyond which nothing happens."""


def smallest_mean(deviation: float, pairs: int, rules: Rules) -> float | None:
    """Return the difference of means that is shown with a power of 0.8, given the deviation of differences."""
    if pairs < rules.least_pairs or deviation == 0:
        return None
    return _smallest_standardized(pairs, rules.alpha) * deviation


@lru_cache(maxsize=1_000)
def _smallest_standardized(pairs: int, alpha: float) -> float:
    """Return the standardized difference that is shown; it is the same for all metrics of as many items."""
    return float(TTestPower().solve_power(nobs=pairs, alpha=alpha, power=POWER))


def items_for_mean(dz: float, rules: Rules) -> int | None:
    """Return the number of pairs that show a standardized difference with a power of 0.8."""
    if abs(dz) < _NOTHING:
        return None
    if abs(dz) < _SMALL:
        return math.ceil((_normal_sum(rules) / dz) ** 2)
    power = TTestPower()
    if power.power(abs(dz), rules.least_pairs, rules.alpha) >= POWER:
        return rules.least_pairs
    return math.ceil(float(power.solve_power(effect_size=abs(dz), alpha=rules.alpha, power=POWER)))


def smallest_by_interval(interval: tuple[float, float], rules: Rules) -> float:
    """Return the smallest difference shown by an estimate, from its interval, as if it were normal."""
    error = (interval[1] - interval[0]) / 2 / stats.norm.isf(rules.alpha / 2)
    return float(_normal_sum(rules) * error)


def items_by_interval(difference: float, smallest: float, pairs: int) -> int | None:
    """Return the number of pairs at which a difference would be the smallest to be shown."""
    return math.ceil(pairs * (smallest / difference) ** 2) if abs(difference) > smallest * _NOTHING else None


def smallest_of_proportions(discordant: int, pairs: int, rules: Rules) -> float | None:
    """Return the difference of proportions that McNemar's exact test shows with a power of 0.8.

    As many pairs are taken to differ as did; more, where that many would not do even if all went one way.
    """

    def lacking(difference: float) -> float:
        return mcnemar_power(difference, max(discordant / pairs, difference), pairs, rules) - POWER

    if pairs < rules.least_pairs or lacking(1.0) < 0:
        return None
    return float(optimize.brentq(lacking, 1e-12, 1.0, xtol=1e-6))


def items_for_proportions(difference: float, share: float, rules: Rules) -> int | None:
    """Return the number of pairs that show a difference of proportions with a power of 0.8.

    `share` of the pairs is taken to differ.

    The first guess is that of R. J. Connor, "Sample Size for Testing Differences in Proportions for the Paired-Sample
    Design", Biometrics 43, 1987, 207-211.
    """
    if not difference:
        return None
    critical, beyond = stats.norm.isf(rules.alpha / 2), stats.norm.isf(1 - POWER)
    size = abs(difference)
    guess = float(((critical * math.sqrt(share) + beyond * math.sqrt(max(0.0, share - size**2))) / size) ** 2)
    if guess > _EXACT_UP_TO:
        return math.ceil(guess)
    fewest, most = rules.least_pairs - 1, 2 * math.ceil(guess) + 2 * rules.least_pairs + 20
    enough = partial(mcnemar_power, size, share, rules=rules)
    while most - fewest > 1:
        middle = (fewest + most) // 2
        fewest, most = (fewest, middle) if enough(middle) >= POWER else (middle, most)
    return most


def mcnemar_power(difference: float, share: float, pairs: int, rules: Rules) -> float:
    """Return the chance that McNemar's exact test shows a difference, given the share of pairs that differs.

    Exact: over all counts of discordant pairs that can occur, and within each over what the test rejects.
    """
    middle, spread = pairs * share, math.sqrt(pairs * share * (1 - share))
    counts = np.arange(max(0, math.floor(middle - _FAR * spread)), min(pairs, math.ceil(middle + _FAR * spread)) + 1)
    # The largest count of one side that is rejected: its tail is at most half of alpha.
    reject = stats.binom.ppf(rules.alpha / 2, counts, 0.5)
    reject = np.where(stats.binom.cdf(reject, counts, 0.5) <= rules.alpha / 2, reject, reject - 1)
    one_way = min(1.0, (share + difference) / 2 / share) if share else 0.5
    rejected = stats.binom.cdf(reject, counts, one_way) + stats.binom.cdf(reject, counts, 1 - one_way)
    return float(np.sum(stats.binom.pmf(counts, pairs, share) * rejected))


def _normal_sum(rules: Rules) -> float:
    return float(stats.norm.isf(rules.alpha / 2) + stats.norm.isf(1 - POWER))
