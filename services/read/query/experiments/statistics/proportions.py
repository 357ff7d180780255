"""Items that are wholly true or wholly false in both runs: McNemar's exact test and an interval that agrees with it."""

from collections.abc import Callable
from typing import Any

from scipy import integrate, optimize, special, stats
from statsmodels.stats.contingency_tables import mcnemar

from services.read.query.experiments.statistics.finding import Finding, Rules
from services.read.query.experiments.statistics.power import items_for_proportions, smallest_of_proportions

_NODES = 80
_TINY, _CLOSE = 1e-12, 1e-9


def compare_proportions(became_true: int, became_false: int, pairs: int, rules: Rules) -> Finding:
    """Compare two paired proportions by McNemar's test. Exact: nothing is sampled and nothing approximated."""
    discordant = became_true + became_false
    difference = (became_true - became_false) / pairs
    result = mcnemar([[0, became_true], [became_false, pairs - discordant]], exact=True)
    return Finding(
        "McNemar, exact",
        float(result.pvalue) if discordant else 1.0,
        difference,
        melded_interval(became_true, became_false, pairs, rules.confidence),
        "odds ratio of the discordant pairs",
        became_true / became_false if became_true and became_false else None,
        smallest_of_proportions(discordant, pairs, rules),
        items_for_proportions(difference, discordant / pairs, rules),
        informative=bool(discordant),
    )


def melded_interval(improved: int, regressed: int, pairs: int, confidence: float) -> tuple[float, float]:
    """Return an interval of (improved - regressed) / pairs that never contradicts McNemar's exact test.

    Neither SciPy nor statsmodels has one for pairs. This is the melded interval of M. P. Fay and K. Lumbard,
    "Confidence intervals for difference in proportions for matched pairs compatible with exact McNemar's or sign
    tests", Statistics in Medicine 40, 2021, 1147-1159: the exact confidence distributions of the share of discordant
    pairs and of the side on which they fall are taken together. It excludes 0 just when the test rejects, and its
    coverage is kept at every size.
    """
    tail = (1 - confidence) / 2
    return _lower(improved, regressed, pairs, tail), -_lower(regressed, improved, pairs, tail)


def _lower(ups: int, downs: int, pairs: int, tail: float) -> float:
    """Return the quantile of share * (2 * side - 1), each as low as the data allow."""
    discordant, same = ups + downs, pairs - ups - downs
    if ups == 0:  # The side is 0 for certain.
        return -float(special.betaincinv(discordant + 1, same, 1 - tail)) if same else -1.0
    low, high = special.betaincinv(ups, downs + 1, _TINY), special.betainccinv(ups, downs + 1, _TINY)

    def at_least(ratio: Any) -> Any:
        """Return the chance that the share, as large as the data allow, is at least this ratio."""
        return special.betaincc(discordant + 1, same, ratio) if same else ratio <= 1

    def at_most(ratio: Any) -> Any:
        """Return the chance that the share, as small as the data allow, is at most this ratio."""
        return special.betainc(discordant, same + 1, ratio)

    def beneath(bound: float) -> float:
        """Return the chance to be at most this bound, less the tail."""
        edge = (1 + bound) / 2  # of the sides: at it a share of 1 just comes to the bound
        if bound < 0:
            return _over(lambda side: density(side) * at_least(bound / (2 * side - 1)), low, edge) - tail
        more = _over(lambda side: density(side) * at_most(bound / (2 * side - 1)), max(low, edge), high)
        return float(special.betainc(ups, downs + 1, edge)) + more - tail

    def density(side: Any) -> Any:
        return stats.beta.pdf(side, ups, downs + 1)

    if special.betainc(ups, downs + 1, 0.5) < tail:
        return float(optimize.brentq(beneath, 1e-15, 1.0, xtol=_CLOSE))
    return float(optimize.brentq(beneath, -1.0, -1e-15, xtol=_CLOSE)) if beneath(-1e-15) > 0 else 0.0


def _over(density: Callable[[Any], Any], start: float, end: float) -> float:
    return float(integrate.fixed_quad(density, start, end, n=_NODES)[0]) if start < end else 0.0
