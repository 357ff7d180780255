"""May this run take the place of that one? The rule of `lodestream experiments gate`, as a pure function."""

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lodestream_proto.v1 import experiments_pb2 as pb

from lodestream_evals.reports._metrics import MEASURES, Metric, costs_of, metrics_of
from lodestream_evals.reports._units import Kind, interval, shown, signed
from lodestream_evals.reports._views import view

_STATES = {
    pb.EXPERIMENT_STATE_RUNNING: "is still running",
    pb.EXPERIMENT_STATE_PAUSED: "is paused",
    pb.EXPERIMENT_STATE_CANCELLED: "was cancelled",
    pb.EXPERIMENT_STATE_FAILED: "could not be run",
    pb.EXPERIMENT_STATE_BUDGET_SPENT: "ended when its budget was spent",
}


class Outcome(enum.StrEnum):
    """Of a check, and of a gate."""

    PASSED = "passed"
    FAILED = "failed"
    CANNOT_JUDGE = "cannot judge"


@dataclass(frozen=True, slots=True)
class Threshold:
    """What the mean of a metric must keep to, whatever the baseline did; of booleans, the share that is true."""

    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRule:
    """What a run has to keep to.

    It fails when a judged metric is worse than the baseline's at the confidence of the comparison; when the worse end
    of its interval is beyond `max_regression`, where that is given (non-inferiority: it has to be shown that it is no
    worse than that); when a threshold is missed; or when more of its items ended with an error than may.
    """

    metrics: Sequence[str] = ()
    """None: all evaluations that have numbers. "latency", "cost" and "errors" are judged only when they are named."""
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    max_regression: Mapping[str, float] = field(default_factory=dict)
    """By metric, in its own unit; of booleans a share: 0.02 is two percentage points."""
    min_pairs: int = 1
    max_failed: float | None = None
    """Share of items that may end with an error. None: no more than the baseline's; without a baseline, any."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was judged, and how it came out."""

    name: str
    metric: str
    outcome: Outcome
    reason: str
    """A sentence with the figures."""


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """All checks."""

    checks: tuple[Check, ...]

    @property
    def outcome(self) -> Outcome:
        """Failed when any check did; never passed when there is one that can't be judged, or none at all."""
        outcomes = {check.outcome for check in self.checks}
        if Outcome.FAILED in outcomes:
            return Outcome.FAILED
        return Outcome.PASSED if outcomes == {Outcome.PASSED} else Outcome.CANNOT_JUDGE

    @property
    def exit_code(self) -> int:
        """0 passed, 1 failed, 2 nothing to judge."""
        return {Outcome.PASSED: 0, Outcome.FAILED: 1, Outcome.CANNOT_JUDGE: 2}[self.outcome]


def judge(
    rule: GateRule,
    run: pb.ExperimentRun,
    comparison: pb.CompareExperimentsResponse | None = None,
    items: Sequence[pb.ExperimentItem] = (),
) -> GateVerdict:
    """The verdict on a run. `items` are needed for thresholds of latency, and where the run has no summary."""
    unfinished = _unfinished(run, comparison)
    if unfinished:
        return GateVerdict(tuple(unfinished))
    views = [its for its in map(view, items) if its.run_id in {"", run.request.run_id}]
    own = {metric.name: metric for metric in [*costs_of(run, views), *metrics_of(run, views)]}
    compared = {its.metric: its for its in comparison.metrics if its.run_id == run.request.run_id} if comparison else {}
    checks = [_threshold(name, bounds, own, compared) for name, bounds in rule.thresholds.items()]
    if comparison is not None:
        names = _judged(rule, own, compared)
        checks += [_against(name, rule, own.get(name), compared.get(name)) for name in names]
        if not names:
            reason = "the two runs have no evaluation with numbers in common"
            checks.append(Check("comparison", "", Outcome.CANNOT_JUDGE, reason))
    checks += _failures(rule, run, comparison.baseline if comparison else None)
    if comparison is None and not rule.thresholds:
        checks.append(Check("gate", "", Outcome.CANNOT_JUDGE, "there is neither a baseline nor a threshold"))
    return GateVerdict(tuple(checks))


def _unfinished(run: pb.ExperimentRun, comparison: pb.CompareExperimentsResponse | None) -> list[Check]:
    runs = [("run", run)] + ([("baseline", comparison.baseline)] if comparison else [])
    return [
        Check(
            what, "", Outcome.CANNOT_JUDGE, f"{its.request.name!r} {_STATES.get(its.state, 'has not begun')}{_why(its)}"
        )
        for what, its in runs
        if its.state != pb.EXPERIMENT_STATE_COMPLETED
    ]


def _why(run: pb.ExperimentRun) -> str:
    done = f" with {run.items_finished:,} of {run.items_total:,} items done" if run.items_total else ""
    return done + (f": {run.reason}" if run.reason else "")


def _judged(rule: GateRule, own: Mapping[str, Metric], compared: Mapping[str, pb.MetricComparison]) -> list[str]:
    """The metrics that are held against the baseline."""
    if rule.metrics:
        return list(dict.fromkeys([*rule.metrics, *rule.max_regression]))
    evaluations = [
        name
        for name in compared
        if name in rule.max_regression
        or name in rule.thresholds
        or (name not in MEASURES and (name not in own or own[name].mean is not None))
    ]
    return list(dict.fromkeys([*evaluations, *rule.max_regression]))


def _threshold(
    name: str, bounds: Threshold, own: Mapping[str, Metric], compared: Mapping[str, pb.MetricComparison]
) -> Check:
    metric, other = own.get(name), compared.get(name)
    mean = metric.mean if metric else other.run_mean if other is not None and other.HasField("run_mean") else None
    if mean is None or not math.isfinite(mean):
        known = ", ".join(sorted(its.name for its in own.values() if its.mean is not None)) or "none"
        reason = f"the run has no numbers of {name!r}; it has: {known}"
        return Check(f"{name} threshold", name, Outcome.CANNOT_JUDGE, reason)
    kind = metric.kind if metric else Kind.NUMBER
    missed = []
    if bounds.least is not None and mean < bounds.least:
        missed.append(f"below the {shown(kind, bounds.least)} that it must reach")
    if bounds.most is not None and mean > bounds.most:
        missed.append(f"above the {shown(kind, bounds.most)} that it may reach")
    if missed:
        return Check(f"{name} threshold", name, Outcome.FAILED, f"{shown(kind, mean)} is {' and '.join(missed)}")
    kept = [f"at least {shown(kind, bounds.least)}" if bounds.least is not None else "",
            f"at most {shown(kind, bounds.most)}" if bounds.most is not None else ""]  # fmt: skip
    return Check(
        f"{name} threshold", name, Outcome.PASSED, f"{shown(kind, mean)} is {' and '.join(filter(None, kept))}"
    )


def _against(name: str, rule: GateRule, metric: Metric | None, compared: pb.MetricComparison | None) -> Check:
    title = f"{name} against the baseline"
    if compared is None:
        return Check(title, name, Outcome.CANNOT_JUDGE, f"there is nothing to compare of {name!r}")
    if compared.pairs < max(rule.min_pairs, 1):
        reason = f"{compared.pairs:,} items have a value in both runs; {max(rule.min_pairs, 1):,} are needed"
        return Check(title, name, Outcome.CANNOT_JUDGE, reason)
    kind = metric.kind if metric else Kind.NUMBER
    figures = _figures(kind, compared)
    if compared.verdict == pb.METRIC_VERDICT_WORSE:
        return Check(title, name, Outcome.FAILED, f"it got worse: {figures}")
    if compared.verdict in {pb.METRIC_VERDICT_CANNOT_SAY, pb.METRIC_VERDICT_UNSPECIFIED}:
        reason = compared.summary or "nothing can be said of it"
        return Check(title, name, Outcome.CANNOT_JUDGE, reason)
    allowed = rule.max_regression.get(name)
    if allowed is not None and compared.unchanged < compared.pairs:
        if not (compared.HasField("interval_low") and compared.HasField("interval_high")):
            return Check(title, name, Outcome.CANNOT_JUDGE, "its difference has no interval to hold against the limit")
        worst = compared.interval_high if compared.lower_is_better else -compared.interval_low
        if not worst <= allowed:  # also when it is no number
            limit = shown(kind, allowed) if kind is not Kind.SHARE else f"{100 * allowed:.1f} percentage points"
            return Check(
                title, name, Outcome.FAILED, f"it is not shown to be within {limit} of the baseline: {figures}"
            )
    better = "it got better" if compared.verdict == pb.METRIC_VERDICT_BETTER else "no loss is shown"
    return Check(title, name, Outcome.PASSED, f"{better}: {figures}")


def _figures(kind: Kind, compared: pb.MetricComparison) -> str:
    if not compared.HasField("difference"):
        return f"over {compared.pairs:,} items"
    means = ""
    if compared.HasField("baseline_mean") and compared.HasField("run_mean"):
        means = f"{shown(kind, compared.baseline_mean)} to {shown(kind, compared.run_mean)}, "
    bounds = ""
    if compared.HasField("interval_low") and compared.HasField("interval_high"):
        bounds = f" {interval(kind, compared.interval_low, compared.interval_high)}"
    return f"{means}{signed(kind, compared.difference)}{bounds} over {compared.pairs:,} items"


def _failures(rule: GateRule, run: pb.ExperimentRun, baseline: pb.ExperimentRun | None) -> list[Check]:
    """Items that ended with an error have no values, so that no comparison would show them."""
    if rule.max_failed is None and baseline is None:
        return []
    failed = _share_failed(run)
    allowed = _share_failed(baseline) if rule.max_failed is None and baseline else rule.max_failed or 0.0
    counted = f"{run.items_failed:,} of {run.items_finished:,} items ended with an error ({shown(Kind.SHARE, failed)})"
    whose = "the baseline's" if rule.max_failed is None else "the limit of"
    limit = f"{whose} {shown(Kind.SHARE, allowed)}"
    if not run.items_finished:
        return [Check("failed items", "", Outcome.CANNOT_JUDGE, "no item is finished")]
    if failed > allowed:
        return [Check("failed items", "", Outcome.FAILED, f"{counted}, more than {limit}")]
    return [Check("failed items", "", Outcome.PASSED, f"{counted}, within {limit}" if failed else "no item failed")]


def _share_failed(run: pb.ExperimentRun) -> float:
    return run.items_failed / run.items_finished if run.items_finished else 0.0
