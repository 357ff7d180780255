"""How often comparisons are wrong, by simulations with a fixed seed: as often as they say."""

import gc
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
from lodestream_proto.v1.experiments_pb2 import METRIC_VERDICT_BETTER, METRIC_VERDICT_WORSE

from services.read.query.experiments.statistics import comparison
from services.read.query.experiments.statistics.comparison import Metric, RunMetrics, compare
from services.read.query.experiments.statistics.continuous import compare_numbers
from services.read.query.experiments.statistics.finding import Rules
from services.read.query.experiments.statistics.power import smallest_mean, smallest_of_proportions
from services.read.query.experiments.statistics.proportions import compare_proportions
from tests.support.statistics import booleans, numbers

RULES = Rules()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What comes up again is reckoned once; statsmodels, which collects garbage at each correction, finds none."""
    monkeypatch.setattr(comparison, "compare_proportions", cache(compare_proportions))
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("quick")
def test_two_runs_of_the_same_are_rarely_told_apart() -> None:
    """400 A/A comparisons of two metrics each: any verdict in at most 7 % of them, after the correction."""
    random = np.random.default_rng(20)
    metrics = [Metric("passed"), Metric("grade")]

    def run() -> RunMetrics:
        passed = booleans((random.random(20) < easy).astype(float))
        return RunMetrics("", {"passed": passed, "grade": numbers(random.normal(hard, 1))})

    told_apart = 0
    for _ in range(400):
        easy, hard = random.random(20), random.normal(0, 2, 8)
        verdicts = {each.message.verdict for each in compare(run(), [run()], metrics, Rules(resamples=199))}
        told_apart += bool(verdicts & {METRIC_VERDICT_BETTER, METRIC_VERDICT_WORSE})
    assert told_apart <= 28


def test_a_difference_of_means_as_small_as_is_claimed_is_found_four_times_in_five() -> None:
    random = np.random.default_rng(3)
    smallest = smallest_mean(1.0, 10, RULES) or 0
    found = sum(
        (compare_numbers(list(random.normal(smallest, 1, 10)), RULES, by_rank=True).p_value or 1) < 0.05
        for _ in range(150)
    )
    assert 0.70 <= found / 150 <= 0.88


@pytest.mark.parametrize(("pairs", "discordant"), [(100, 20), (100, 2), (40, 15)])
def test_a_difference_of_proportions_as_small_as_is_claimed_is_found_four_times_in_five(pairs, discordant) -> None:
    random = np.random.default_rng(4)
    smallest = smallest_of_proportions(discordant, pairs, RULES) or 0
    share = max(discordant / pairs, smallest)
    ways = [(share + smallest) / 2, (share - smallest) / 2, 1 - share]
    known: dict[tuple[int, int], bool] = {}
    found = 0
    for up, down, _ in random.multinomial(pairs, ways, 1_000).tolist():
        if (up, down) not in known:
            known[up, down] = (compare_proportions(up, down, pairs, RULES).p_value or 1) < 0.05
        found += known[up, down]
    assert 0.75 <= found / 1_000 <= 0.85
