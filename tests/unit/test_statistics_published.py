"""The tests give what was published of them."""

import numpy as np
import pytest
from scipy import stats

from services.read.query.experiments.statistics.categorical import stuart_maxwell
from services.read.query.experiments.statistics.comparison import adjusted
from services.read.query.experiments.statistics.continuous import compare_numbers, compare_ranks
from services.read.query.experiments.statistics.finding import Finding, Rules
from services.read.query.experiments.statistics.power import items_for_mean, mcnemar_power, smallest_mean
from services.read.query.experiments.statistics.proportions import compare_proportions, melded_interval

RULES = Rules()
# Darwin 1876, The Effects of Cross and Self Fertilisation: 15 pairs of maize, crossed less selfed; eighths of an inch.
DARWIN = [each / 8 for each in (49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48)]
# Hollander and Wolfe 1973, Nonparametric Statistical Methods, p. 29: depression scale factor of 9 patients, after less
# before.
DEPRESSION = [-0.952, 0.147, -1.022, -0.430, -0.620, -0.590, -0.490, 0.080, -0.010]
# Stuart 1955, Biometrika 42: unaided vision of 7,477 women, right eye by left.
VISION = [[1520, 266, 124, 66], [234, 1512, 432, 78], [117, 362, 1772, 205], [36, 82, 179, 492]]


def test_mcnemar_on_two_media_for_tubercle_bacilli() -> None:
    """Armitage and Berry 1994, p. 127: 12 grew on one medium only, 2 on the other; two-sided P 0.0129, ratio 6."""
    found = compare_proportions(12, 2, 50, RULES)
    assert (round(found.p_value or 0, 4), found.effect_size, found.difference) == (0.0129, 6, 0.2)


def test_mcnemar_on_airways_before_and_after_a_transplantation() -> None:
    """Bentur 2009, in Fagerland, Lydersen and Laake 2014: 1 and 7 of 21; exact conditional p 0.0703."""
    found = compare_proportions(1, 7, 21, RULES)
    assert found.p_value == pytest.approx(0.0703, abs=5e-5)
    assert found.difference == pytest.approx(-0.286, abs=5e-4)


def test_sign_flips_on_darwins_maize() -> None:
    """Fisher 1935, The Design of Experiments, section 21: 863 of 32,768 flips are as large, 5.267 % on both sides."""
    found = compare_numbers(DARWIN, RULES, by_rank=True)
    assert (found.test, found.p_value) == ("paired permutation, exact", 2 * 863 / 32768)
    assert found.difference == pytest.approx(20.933 / 8, abs=1e-4)
    assert found.effect_size == pytest.approx(2.148 / 15**0.5, abs=1e-3)  # Fisher's t of 14 degrees, 2.148


def test_wilcoxon_on_depression() -> None:
    """Hollander and Wolfe 1973, pp. 29-38: T+ 40 of 45, one-sided 0.0195; estimate -0.46, interval -0.786 to -0.010."""
    found = compare_ranks(np.array(DEPRESSION), RULES)
    assert found.p_value == pytest.approx(2 * 0.0195, abs=1e-4)
    assert found.difference == pytest.approx(-0.46)
    assert found.interval == pytest.approx((-0.786, -0.010))
    assert found.effect_size == pytest.approx((5 - 40) / 45)


def test_stuart_maxwell_on_vision() -> None:
    """Stuart 1955: 11.96 at 3 degrees of freedom."""
    statistic, freedom = stuart_maxwell(np.array(VISION, dtype=float))
    assert (round(statistic, 2), freedom) == (11.96, 3)


def test_holm_on_four_p_values() -> None:
    """Holm 1979, Scandinavian Journal of Statistics 6: 0.01, 0.04, 0.03 and 0.005 become 0.03, 0.06, 0.06 and 0.02."""
    tests = [Finding("", p_value) for p_value in (0.01, 0.04, 0.03, 0.005)]
    assert adjusted(tests) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize(("dz", "items"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_pairs_for_cohens_small_medium_and_large_effects(dz, items) -> None:
    """Cohen 1988, Statistical Power Analysis, at a power of 0.8, as G*Power gives them for matched pairs."""
    assert items_for_mean(dz, RULES) == items
    assert (smallest_mean(1.0, items, RULES) or 1) <= dz


@pytest.mark.parametrize("pairs", [4, 11, 20])
def test_the_melded_interval_covers_as_it_says(pairs) -> None:
    """Fay and Lumbard 2021: each end errs in at most 2.5 % of samples, whatever the truth."""
    counts = [(ups, downs) for ups in range(pairs + 1) for downs in range(pairs + 1 - ups)]
    bounds = np.array([melded_interval(ups, downs, pairs, 0.95) for ups, downs in counts])
    cells = [(ups, downs, pairs - ups - downs) for ups, downs in counts]
    for up, down in [(0.5, 0.5), (0.1, 0.1), (0.3, 0.05), (0.02, 0.4), (0.01, 0.01), (0.9, 0.05)]:
        chances = stats.multinomial.pmf(cells, pairs, [up, down, 1 - up - down])
        assert chances[bounds[:, 0] > up - down + 1e-9].sum() <= 0.025 + 1e-6
        assert chances[bounds[:, 1] < up - down - 1e-9].sum() <= 0.025 + 1e-6


@pytest.mark.parametrize("pairs", [6, 17, 40])
def test_the_melded_interval_and_the_test_never_contradict_each_other(pairs) -> None:
    for ups in range(pairs + 1):
        for downs in range(0, pairs + 1 - ups, 1 + pairs // 8):
            low, high = melded_interval(ups, downs, pairs, 0.95)
            assert -1 <= low <= (ups - downs) / pairs <= high <= 1
            p_value = stats.binomtest(ups, ups + downs).pvalue if ups + downs else 1
            assert (low > 0 or high < 0) == (p_value < 0.05), (ups, downs)


def test_mcnemars_power_is_that_of_the_binomial_when_all_pairs_differ() -> None:
    """Of 20 discordant pairs 15 must be on one side: with chances of 0.8 and 0.2 that is 0.8042 (binomial tables)."""
    assert mcnemar_power(0.6, 1.0, 20, RULES) == pytest.approx(0.8042, abs=1e-4)
