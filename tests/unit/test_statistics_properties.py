"""What holds for any two runs."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from lodestream_proto.v1.experiments_pb2 import MetricComparison

from services.read.query.experiments.statistics.comparison import Metric, RunMetrics, compare
from services.read.query.experiments.statistics.finding import Rules
from services.read.query.experiments.statistics.pairing import ValueKind, Values
from tests.support.statistics import booleans, categories, compared, numbers

RULES = Rules(seed=7, resamples=999)
LIMIT = settings(max_examples=20, deadline=None, derandomize=True)
NUMBER = (
    st.floats(min_value=-1e9, max_value=1e9) | st.integers(-3, 3).map(float) | st.sampled_from([1e308, -1e308, 5e-324])
)
PAIRS = st.lists(st.tuples(NUMBER, NUMBER), max_size=22)
TRUTHS = st.lists(st.tuples(st.booleans().map(float), st.booleans().map(float)), max_size=40)
SHARES = st.lists(st.tuples(*[st.lists(st.booleans().map(float), min_size=1, max_size=3)] * 2), max_size=20)
NAMES = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), max_size=40)
FIGURES = ("difference", "interval_low", "interval_high", "p_value", "effect_size", "smallest_detectable_difference")


def values_of(told: Sequence[tuple[Any, Any]], which: int, kind: ValueKind) -> Values:
    values = [each[which] for each in told]
    if kind is ValueKind.CATEGORY:
        return categories(values)
    return numbers(values) if kind is ValueKind.NUMBER else booleans(values)


def both_ways(told: Sequence[tuple[Any, Any]], kind: ValueKind) -> tuple[MetricComparison, MetricComparison]:
    first, second = values_of(told, 0, kind), values_of(told, 1, kind)
    return compared(first, second, RULES), compared(second, first, RULES)


def close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)


def assert_mirrored(there: MetricComparison, back: MetricComparison) -> None:
    assert (there.pairs, there.test, there.improved, there.regressed, there.unchanged) == (
        back.pairs,
        back.test,
        back.regressed,
        back.improved,
        back.unchanged,
    )
    assert close(there.p_value, back.p_value)
    assert close(there.difference, -back.difference)
    assert there.HasField("interval_low") == back.HasField("interval_low")
    assert close(there.interval_low, -back.interval_high)
    assert close(there.interval_high, -back.interval_low)
    assert {1: 2, 2: 1}.get(there.verdict, there.verdict) == back.verdict


def assert_sound(said: MetricComparison) -> None:
    told = {field.name: value for field, value in said.ListFields()}
    assert all(math.isfinite(told[name]) for name in FIGURES if name in told)
    assert 0 <= said.p_value <= 1
    assert said.p_value <= said.p_adjusted
    assert said.improved + said.regressed + said.unchanged <= said.pairs
    assert said.verdict
    assert said.summary.startswith("m")
    assert "nan" not in said.summary
    assert "inf" not in said.summary.replace("nothing", "")
    if said.HasField("interval_low") and "typical" not in said.summary:
        # A bootstrap of few pairs that are far from normal may leave their mean out, and is an interval nevertheless.
        assert said.interval_low <= said.interval_high
        assert said.interval_low <= said.difference <= said.interval_high or said.pairs < 12


@LIMIT
@given(PAIRS)
def test_swapping_the_runs_mirrors_what_is_said_of_numbers(told) -> None:
    there, back = both_ways(told, ValueKind.NUMBER)
    assert_sound(there)
    assert_mirrored(there, back)


@LIMIT
@given(TRUTHS)
def test_swapping_the_runs_mirrors_what_is_said_of_truths(told) -> None:
    there, back = both_ways(told, ValueKind.BOOLEAN)
    assert_sound(there)
    assert_mirrored(there, back)


@LIMIT
@given(SHARES)
def test_swapping_the_runs_mirrors_what_is_said_of_repeated_truths(told) -> None:
    there, back = both_ways(told, ValueKind.BOOLEAN)
    assert_sound(there)
    assert_mirrored(there, back)


@LIMIT
@given(NAMES)
def test_swapping_the_runs_changes_nothing_that_is_said_of_categories(told) -> None:
    there, back = both_ways(told, ValueKind.CATEGORY)
    assert_sound(there)
    assert_mirrored(there, back)


@settings(LIMIT, max_examples=8)
@given(SHARES, st.randoms(use_true_random=False))
def test_the_order_of_items_and_repetitions_does_not_matter(told, random) -> None:
    first, second = values_of(told, 0, ValueKind.NUMBER), values_of(told, 1, ValueKind.NUMBER)

    def shuffled(values: Values) -> Values:
        items = [(item, random.sample(list(its), len(its))) for item, its in values.numbers.items()]
        random.shuffle(items)
        return replace(values, numbers=dict(items))

    said, again = compared(first, second, RULES), compared(shuffled(first), shuffled(second), RULES)
    again.ClearField("noise_floor")  # of the halves in which repetitions were made: theirs is an order
    said.ClearField("noise_floor")
    assert said == again


def test_the_same_seed_gives_the_same_answer_and_another_one_another() -> None:
    first, second = numbers(math.sin(n) for n in range(40)), numbers(math.sin(n) + math.cos(3 * n) for n in range(40))
    assert compared(first, second, Rules(seed=1)) == compared(first, second, Rules(seed=1))
    assert compared(first, second, Rules(seed=1)).interval_low != compared(first, second, Rules(seed=2)).interval_low


@settings(LIMIT, max_examples=6)
@given(TRUTHS, PAIRS)
def test_more_metrics_make_nothing_more_certain(truths, told) -> None:
    """What Holm's correction is for; and a metric in which nothing differs costs the others nothing."""

    def run(which: int) -> RunMetrics:
        same = values_of(told, 0, ValueKind.NUMBER)
        its = {
            "m": values_of(truths, which, ValueKind.BOOLEAN),
            "n": values_of(told, which, ValueKind.NUMBER),
            "same": same,
        }
        return RunMetrics(str(which), its)

    alone, with_same, with_all = (
        compare(run(0), [run(1)], [Metric(name) for name in names], RULES)[0].message
        for names in (["m"], ["m", "same"], ["m", "n", "same"])
    )
    assert alone.p_adjusted == with_same.p_adjusted <= with_all.p_adjusted
