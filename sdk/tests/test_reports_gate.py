"""The gate: when it fails, when it can't judge, and that it never passes for want of figures."""

import math
from typing import Any

import pytest
from lodestream.reports import GateRule, Outcome, Threshold, judge
from lodestream_proto.v1 import experiments_pb2 as pb

from sdk.tests.experiments import BASELINE, boolean, compared, made_item, made_run, metric, summed_up, worse

KEPT: dict[str, Any] = {
    "baseline_mean": 0.8, "run_mean": 0.79, "difference": -0.01, "interval_low": -0.03, "interval_high": 0.01,
}  # fmt: skip


def finished(**means: float) -> pb.ExperimentRun:
    """A run with shares of these means."""
    run = made_run(items_finished=40, items_total=40)
    for name, mean in means.items():
        summary = run.evaluations.add(name=name, count=40, mean=mean)
        summary.counts["true"] = 1
    return run


def code(rule: GateRule, *metrics: pb.MetricComparison, run: pb.ExperimentRun | None = None, **fields: Any) -> int:
    run = run or finished(correct=0.79)
    return judge(rule, run, compared(*metrics, run=run, **fields)).exit_code


def test_it_fails_when_a_metric_is_worse_and_passes_when_no_loss_is_shown() -> None:
    assert code(GateRule(), worse()) == 1
    assert code(GateRule(), metric(**KEPT)) == 0
    assert code(GateRule(), metric(**KEPT), worse("other")) == 1


@pytest.mark.parametrize(
    ("fields", "allowed", "expected"),
    [
        (KEPT, 0.03, 0),
        (KEPT, 0.029, 1),
        ({**KEPT, "lower_is_better": True}, 0.01, 0),
        ({**KEPT, "lower_is_better": True}, 0.009, 1),
        ({**KEPT, "interval_low": math.nan}, 0.03, 1),
        ({"difference": -0.01}, 0.03, 2),
        ({"difference": 0.0, "unchanged": 40}, 0.03, 0),
    ],
    ids=["within", "beyond", "lower within", "lower beyond", "no number", "no interval", "all the same"],
)
def test_non_inferiority_is_about_the_worse_end_of_the_interval(
    fields: dict[str, Any], allowed: float, expected: int
) -> None:
    assert code(GateRule(max_regression={"correct": allowed}), metric(**fields)) == expected


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [(Threshold(0.79), 0), (Threshold(0.8), 1), (Threshold(None, 0.79), 0), (Threshold(None, 0.78), 1),
     (Threshold(0.7, 0.8), 0)],
)  # fmt: skip
def test_thresholds_hold_with_and_without_a_baseline(bounds: Threshold, expected: int) -> None:
    rule = GateRule(thresholds={"correct": bounds})
    assert judge(rule, finished(correct=0.79)).exit_code == expected
    assert code(rule, metric(**KEPT)) == expected


@pytest.mark.parametrize(
    ("run", "rule", "reason"),
    [
        (finished(correct=0.9), GateRule(), "neither a baseline nor a threshold"),
        (finished(correct=0.9), GateRule(thresholds={"tone": Threshold(0.5)}), "no numbers of 'tone'; it has: correct"),
        (finished(correct=math.nan), GateRule(thresholds={"correct": Threshold(0.5)}), "no numbers of 'correct'"),
        (made_run(state=pb.EXPERIMENT_STATE_RUNNING, items_total=9), GateRule(), "still running with 4 of 9 items"),
        (made_run(state=pb.EXPERIMENT_STATE_BUDGET_SPENT, reason="cost"), GateRule(), "budget was spent with 4 of 4"),
    ],
    ids=["nothing asked", "no such metric", "no number", "running", "budget spent"],
)
def test_what_cannot_be_judged_ends_with_2_and_says_why(run: pb.ExperimentRun, rule: GateRule, reason: str) -> None:
    verdict = judge(rule, run)
    assert verdict.exit_code == 2
    assert reason in verdict.checks[0].reason


@pytest.mark.parametrize(
    "metrics",
    [
        (),
        (metric(**{**KEPT, "pairs": 0}),),
        (metric(**KEPT, verdict=pb.METRIC_VERDICT_CANNOT_SAY),),
        (metric(**KEPT, verdict=pb.METRIC_VERDICT_UNSPECIFIED),),
        (metric(**KEPT), metric("other", **KEPT, verdict=pb.METRIC_VERDICT_CANNOT_SAY)),
        (metric("latency", **KEPT),),
    ],
    ids=["no metrics", "no pairs", "can't say", "newer verdict", "one of two", "latency only"],
)
def test_a_comparison_of_nothing_never_passes(metrics: tuple[pb.MetricComparison, ...]) -> None:
    assert code(GateRule(), *metrics) == 2


def test_a_baseline_that_is_not_done_never_passes() -> None:
    baseline = made_run(BASELINE, "answer 3", state=pb.EXPERIMENT_STATE_CANCELLED)
    assert code(GateRule(), metric(**KEPT), baseline=baseline) == 2


def test_too_few_pairs_are_named() -> None:
    verdict = judge(GateRule(min_pairs=41), finished(correct=0.79), compared(metric(**KEPT)))
    assert verdict.outcome is Outcome.CANNOT_JUDGE
    assert "40 items have a value in both runs; 41 are needed" in verdict.checks[0].reason


def test_latency_and_categories_are_judged_only_when_they_are_named() -> None:
    run = finished(correct=0.79)
    run.evaluations.add(name="tone", count=40).counts["kind"] = 40
    tone = metric("tone", verdict=pb.METRIC_VERDICT_CANNOT_SAY)
    slower = worse("latency")
    assert code(GateRule(), metric(**KEPT), tone, slower, run=run) == 0
    assert code(GateRule(metrics=["correct", "latency"]), metric(**KEPT), tone, slower, run=run) == 1
    assert code(GateRule(metrics=["tone"]), metric(**KEPT), tone, slower, run=run) == 2
    assert code(GateRule(metrics=["correct"]), metric(**KEPT), worse("other"), run=run) == 0


@pytest.mark.parametrize(("allowed", "expected"), [(None, 1), (0.02, 1), (0.025, 0), (1.0, 0)])
def test_items_that_failed_are_not_lost_from_sight(allowed: float | None, expected: int) -> None:
    run = finished(correct=0.79)
    run.items_failed = 1
    assert code(GateRule(max_failed=allowed), metric(**KEPT), run=run) == expected


def test_no_more_may_fail_than_did_of_the_baseline() -> None:
    run, baseline = finished(correct=0.79), made_run(BASELINE, "answer 3", items_finished=40, items_failed=1)
    run.items_failed = 1
    assert code(GateRule(), metric(**KEPT), run=run, baseline=baseline) == 0
    run.items_failed = 2
    assert code(GateRule(), metric(**KEPT), run=run, baseline=baseline) == 1


def test_a_loss_counts_even_where_something_else_cannot_be_judged() -> None:
    assert code(GateRule(metrics=["correct", "gone"]), worse()) == 1


def test_latency_can_have_a_threshold_by_its_items() -> None:
    items = [made_item(n, boolean(True), seconds=n) for n in (1, 2, 3)]
    run = summed_up(made_run(), items)
    assert judge(GateRule(thresholds={"latency": Threshold(most=2.0)}), run, items=items).exit_code == 0
    assert judge(GateRule(thresholds={"latency": Threshold(most=1.9)}), run, items=items).exit_code == 1
