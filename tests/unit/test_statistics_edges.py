"""What is said where there is little to say, or where figures could not be."""

import math
import warnings

import numpy as np
import pytest
from lodestream_proto.v1.experiments_pb2 import (
    METRIC_VERDICT_BETTER,
    METRIC_VERDICT_CANNOT_SAY,
    METRIC_VERDICT_NOT_SHOWN,
    METRIC_VERDICT_WORSE,
)
from scipy import stats

from services.read.query.experiments.statistics import continuous
from services.read.query.experiments.statistics.comparison import Metric, RunMetrics, compare, segment_keys
from services.read.query.experiments.statistics.finding import Rules
from services.read.query.experiments.statistics.pairing import ValueKind, Values
from services.read.query.experiments.statistics.wording import Unit, change, figure, probability
from tests.support.statistics import booleans, categories, compared, numbers

LESS = Metric("m", lower_is_better=True)


@pytest.mark.parametrize("told", [[], [1.0], [0.0, 1.0, 2.0, 3.0, 4.0]])
def test_too_few_pairs_show_nothing_whatever_they_are(told) -> None:
    said = compared(numbers(told), numbers(each + 1 for each in told))
    assert (said.verdict, said.pairs, said.HasField("p_value")) == (METRIC_VERDICT_CANNOT_SAY, len(told), False)
    assert "fewer than 6" in said.summary
    assert not said.HasField("interval_low")


def test_six_pairs_that_all_go_one_way_are_the_fewest_that_show_something() -> None:
    said = compared(numbers(range(6)), numbers(n + 1 + n / 10 for n in range(6)))
    assert (said.verdict, said.p_value, said.test) == (METRIC_VERDICT_BETTER, 2 / 64, "paired permutation, exact")


def test_where_nothing_differs_that_is_said_and_nothing_claimed() -> None:
    said = compared(numbers(range(20)), numbers(range(20)))
    assert (said.verdict, said.p_value, said.difference, said.unchanged) == (METRIC_VERDICT_NOT_SHOWN, 1, 0, 20)
    assert not said.HasField("interval_low")
    assert said.summary.endswith("no item differs.")


def test_where_all_differ_alike_there_is_no_interval_and_the_reader_is_told() -> None:
    said = compared(numbers(range(20)), numbers(n + 0.1 for n in range(20)), metric=LESS)
    assert (said.verdict, said.HasField("effect_size")) == (METRIC_VERDICT_WORSE, False)
    assert said.difference == pytest.approx(0.1)
    assert not said.HasField("interval_low")
    assert "no interval" in said.summary


def test_sums_in_another_order_are_no_difference() -> None:
    said = compared(numbers([[0.1, 0.2, 0.3]] * 8), numbers([[0.3, 0.2, 0.1]] * 7 + [[0.2, 0.2, 0.2]]))
    assert said.unchanged == 8


def test_of_unequal_repetitions_each_item_counts_once() -> None:
    said = compared(booleans([[1, 0, 1, 0]] * 10), booleans([[1]] * 5 + [[0, 0]] * 5))
    assert (said.pairs, said.baseline_mean, said.run_mean, said.improved, said.regressed) == (10, 0.5, 0.5, 5, 5)
    assert said.test.startswith("paired permutation")


def test_repetitions_that_are_all_alike_are_single_truths() -> None:
    said = compared(booleans([[1, 1]] * 10), booleans([[0, 0, 0]] * 10))
    assert (said.test, said.verdict) == ("McNemar, exact", METRIC_VERDICT_WORSE)


@pytest.mark.parametrize("large", [1e200, 1e308, math.nextafter(math.inf, 0)])
def test_huge_values_are_reckoned_with_or_said_to_be_too_far_apart(large) -> None:
    near = compared(numbers([large * 0.9] * 7), numbers(large * (0.8 + n / 100) for n in range(7)))
    assert math.isclose(near.baseline_mean, large * 0.9)
    assert near.verdict == METRIC_VERDICT_WORSE
    far = compared(numbers([large] * 7), numbers(-large * (1 - n / 100) for n in range(7)))
    assert far.verdict == (METRIC_VERDICT_WORSE if large < 1e300 else METRIC_VERDICT_CANNOT_SAY)
    assert all(math.isfinite(value) for field, value in far.ListFields() if isinstance(value, float))


def test_a_metric_of_one_run_only_or_of_other_types_cannot_be_compared() -> None:
    one, other = numbers(range(9)), booleans([1.0] * 9)
    texts, mixed = Values(ValueKind.TEXT), Values(ValueKind.MIXED)
    for baseline, run, why in (
        (one, {}, "the run has no value of it"),
        ({}, other, "the baseline has no value of it"),
        (one, other, "its values are numbers in the baseline and true or false in the run"),
        (texts, texts, "its values are texts"),
        (mixed, mixed, "its values are of several types"),
    ):
        said = compared(baseline, run)
        assert (said.verdict, said.pairs) == (METRIC_VERDICT_CANNOT_SAY, 0)
        assert why in said.summary
    assert compared(one, {}).missing == 9
    assert compared(one, numbers(range(8))).summary.endswith("no item differs. 1 item in one run only.")


def test_few_items_far_apart_have_wilcoxon_asked_of_the_typical_item() -> None:
    """99 items that are a little quicker, and one that hung: the mean alone would say that nothing is known."""
    before = numbers(1 + n / 100 for n in range(100))
    after = numbers([61.0, *(0.8 + n / 100 + (n % 7) / 100 for n in range(1, 100))])
    latency = Metric("m", lower_is_better=True, unit=Unit.SECONDS)
    said = compared(before, after, metric=latency)
    assert (said.test, said.verdict) == ("Wilcoxon signed-rank", METRIC_VERDICT_NOT_SHOWN)
    assert said.difference == pytest.approx(-0.17, abs=0.01)
    assert said.interval_high < 0 < said.run_mean - said.baseline_mean
    assert "most items go one way and the mean the other" in said.summary
    hung_less = compared(numbers([60.5, *(1 + n / 100 for n in range(1, 100))]), after, metric=latency)
    assert hung_less.test == "paired permutation"
    bill = compared(before, after, metric=Metric("m", lower_is_better=True, is_a_total=True))
    assert (bill.test, bill.verdict) == ("paired permutation", METRIC_VERDICT_NOT_SHOWN)


def test_one_of_many_metrics_that_differs_by_chance_is_not_shown() -> None:
    random = np.random.default_rng(4)
    noise = {f"n{n}": numbers(random.normal(0, 1, 12)) for n in range(9)}
    again = {f"n{n}": numbers(random.normal(0, 1, 12)) for n in range(9)}
    passed = booleans([0.0] * 12), booleans([1.0] * 6 + [0.0] * 6)
    runs = RunMetrics("b", noise | {"m": passed[0]}), RunMetrics("r", again | {"m": passed[1]})
    (alone,) = compare(runs[0], [runs[1]], [Metric("m")], Rules())
    beside = compare(runs[0], [runs[1]], [Metric("m"), *map(Metric, noise)], Rules(resamples=99))[0]
    assert (alone.message.verdict, beside.message.verdict) == (METRIC_VERDICT_BETTER, METRIC_VERDICT_NOT_SHOWN)
    assert "one of as many tests comes to this by chance" in beside.message.summary
    assert beside.message.p_adjusted >= 9 * beside.message.p_value


def test_categories_that_move_in_a_circle_are_as_frequent_as_before() -> None:
    said = compared(categories("abc" * 20), categories("bca" * 20))
    assert (said.verdict, said.unchanged) == (METRIC_VERDICT_NOT_SHOWN, 0)
    assert said.p_value == pytest.approx(1)


def test_categories_apart_from_each_other_are_tested_together() -> None:
    """A moves to b only and c to d only: taken as one table the covariances have no inverse."""
    said = compared(categories("abcd" * 20), categories("bbdd" * 20))
    assert (said.test, said.verdict) == ("Stuart-Maxwell", METRIC_VERDICT_CANNOT_SAY)
    assert said.p_value < 1e-6
    assert "no order" in said.summary


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.99, 0.9999])
def test_any_confidence_gives_figures_without_a_warning(confidence) -> None:
    rules = Rules(confidence=confidence, resamples=199)
    random = np.random.default_rng(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pairs in (1, 2, 3, 6, 17, 40):
            shift = random.normal(0.3, 1, pairs)
            one = numbers(random.normal(0, 1, pairs))
            other = numbers(value + shift[n] for n, (value,) in enumerate(one.numbers.values()))
            said = compared(one, other, rules)
            truths = compared(booleans((random.random(pairs) < 0.5).astype(float)), booleans([1.0] * pairs), rules)
            assert (said.pairs, truths.pairs) == (pairs, pairs)
            assert said.HasField("p_value") == truths.HasField("p_value") == (pairs >= rules.least_pairs)


def test_the_noise_floor_is_how_far_a_run_is_from_itself() -> None:
    noisy, steady = numbers([[0.0, 1.0, 0.0, 1.0]] * 8), numbers([[0.5, 0.5]] * 8)
    assert (compared(noisy, steady).noise_floor, compared(steady, noisy).noise_floor) == (1.0, 0.0)
    assert not compared(numbers(range(8)), noisy).HasField("noise_floor")
    assert compared(categories([["a", "b"], ["a", "a"]] * 4), categories(["a"] * 8)).noise_floor == 0.5


def test_figures_read_as_people_write_them() -> None:
    assert [figure(value, Unit.SHARE) for value in (0.82, 1.0, -0.0001)] == ["82.0 %", "100.0 %", "0.0 %"]
    assert [change(value, Unit.SECONDS) for value in (0.25, -1234.5, 0.0)] == ["+0.250", "-1,234.5", "+0"]
    assert [figure(value, Unit.DOLLARS) for value in (0.000125, 12.5)] == ["0.000125 USD", "12.5 USD"]
    assert [probability(value) for value in (0.0002, 0.0213, 0.0499, 0.3, 1)] == [
        "p < 0.001",
        "p = 0.021",
        "p = 0.0499",
        "p = 0.30",
        "p = 1.00",
    ]


def test_beyond_300_items_that_differ_students_t_is_the_test_and_the_interval() -> None:
    noise = np.random.default_rng(1)
    baseline = noise.normal(0, 1, 400)
    run = baseline + noise.normal(0.3, 1, 400)
    found = compared(numbers(baseline.tolist()), numbers(run.tolist()))
    expected = stats.ttest_1samp(run - baseline, 0)
    interval = expected.confidence_interval(0.95)
    assert found.test == "paired t"
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.interval_low, found.interval_high) == pytest.approx((interval.low, interval.high))


def test_items_that_do_not_differ_do_not_make_the_test_students() -> None:
    differences = [*np.random.default_rng(2).normal(0.3, 1, 300).tolist(), *[0.0] * 100]
    found = compared(numbers([0.0] * 400), numbers(differences), Rules(resamples=999))
    assert found.test == "paired permutation"


def test_flips_are_enough_for_the_smallest_p_value_after_the_correction() -> None:
    assert [continuous._flips(Rules(tests=tests)) for tests in (1, 62, 63, 200, 10_000)] == [
        9_999, 9_999, 10_080, 32_000, 99_999,
    ]  # fmt: skip
    differences = np.random.default_rng(3).normal(3, 1, 30).tolist()
    many = {f"m{n}": numbers([0.0] * 30) for n in range(200)}
    found = compared(many | {"m": numbers([0.0] * 30)}, many | {"m": numbers(differences)}, Rules(tests=200))
    assert found.p_value < 0.05 / 200


def test_segments_are_made_by_keys_with_few_values_or_by_those_that_are_asked_for() -> None:
    metadata = {str(n): {"few": str(n % 2), "some": str(n % 30), "many": str(n)} for n in range(1_001)}
    assert segment_keys(metadata, []) == (["few"], [])
    keys, reasons = segment_keys(metadata, ["some", "many", "few", "some", "none"])
    assert keys == ["some", "few"]
    assert reasons == [
        "no item has 'none' in its metadata, so there are no segments by it",
        "the metadata's 'many' has 1,001 values; segments are of at most 1,000",
    ]
    assert segment_keys({}, ["few"])[0] == []
