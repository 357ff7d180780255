"""What a report says, found once; each format only shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lodestream_proto.v1 import experiments_pb2 as pb

from lodestream_evals.reports._changes import ItemChanges, changes_of
from lodestream_evals.reports._gate import GateVerdict
from lodestream_evals.reports._headline import headline
from lodestream_evals.reports._metrics import COST, ERRORS, LATENCY, MEASURES, Metric, costs_of, metrics_of
from lodestream_evals.reports._readable import one_line
from lodestream_evals.reports._report import Report
from lodestream_evals.reports._segments import Segment, compared_segments, segments_of
from lodestream_evals.reports._units import Kind, count, shown
from lodestream_evals.reports._views import ItemView, Judgement, judgement, kind_of, of_run, view

FEW_ITEMS = 30
STATES = {
    pb.EXPERIMENT_STATE_RUNNING: "running",
    pb.EXPERIMENT_STATE_PAUSED: "paused",
    pb.EXPERIMENT_STATE_COMPLETED: "completed",
    pb.EXPERIMENT_STATE_CANCELLED: "cancelled",
    pb.EXPERIMENT_STATE_FAILED: "could not be run",
    pb.EXPERIMENT_STATE_BUDGET_SPENT: "budget spent",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A run beside the baseline."""

    run: pb.ExperimentRun
    metrics: tuple[pb.MetricComparison, ...]
    regressed: tuple[ItemChanges, ...]
    improved: tuple[ItemChanges, ...]
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All that the formats show, in the order of what matters."""

    run: pb.ExperimentRun
    headline: str
    """What came out, in one sentence."""
    metrics: tuple[Metric, ...]
    costs: tuple[Metric, ...]
    run_judgements: tuple[Judgement, ...]
    """Of the run as a whole."""
    items: tuple[ItemView, ...]
    failed: tuple[ItemView, ...]
    """Ended with an error."""
    missed: tuple[ItemView, ...]
    """Did not pass a check, or an evaluator failed on them; those with the most first."""
    segments: tuple[Segment, ...]
    baseline: pb.ExperimentRun | None
    baseline_items: tuple[ItemView, ...]
    others: Mapping[str, tuple[ItemView, ...]]
    """Items of the other candidates, by run id."""
    candidates: tuple[Candidate, ...]
    kinds: Mapping[str, Kind]
    gate: GateVerdict | None
    interval: str
    """What the comparison's intervals are: "95 % interval"."""
    trace_url: str
    """With {trace_id}; empty unless it is an http(s) address."""
    warnings: tuple[str, ...]


def findings(report: Report) -> Findings:
    """What the report says."""
    run, comparison = report.run, report.comparison
    everything = [view(item) for item in report.items]
    own = of_run(everything, run.request.run_id)
    metrics, costs = metrics_of(run, own), costs_of(run, own)
    kinds = _kinds(report, metrics)
    candidates = _candidates(comparison, everything, kinds) if comparison else ()
    segments = segments_of(own, metrics, _lower_is_better(comparison))
    return Findings(
        run=run,
        headline=headline(run, metrics, comparison, report.gate, kinds),
        metrics=tuple(metrics),
        costs=tuple(costs),
        run_judgements=tuple(map(judgement, run.run_evaluations)),
        items=tuple(own),
        failed=tuple(item for item in own if item.error),
        missed=tuple(sorted((its for its in own if not its.error and its.missed), key=lambda its: -len(its.missed))),
        segments=tuple(segments),
        baseline=comparison.baseline if comparison else None,
        baseline_items=_baseline_items(comparison, everything),
        others={
            its.run.request.run_id: tuple(item for item in everything if item.run_id == its.run.request.run_id)
            for its in candidates
            if its.run.request.run_id != run.request.run_id
        },
        candidates=candidates,
        kinds=kinds,
        gate=report.gate,
        interval=f"{100 * report.confidence:g} % interval",
        trace_url=report.trace_url if report.trace_url.startswith(("http://", "https://")) else "",
        warnings=tuple(dict.fromkeys([*(comparison.warnings if comparison else ()), *_warnings(run, own, metrics)])),
    )


def _baseline_items(
    comparison: pb.CompareExperimentsResponse | None, items: Sequence[ItemView]
) -> tuple[ItemView, ...]:
    if comparison is None:
        return ()
    return tuple(item for item in items if item.run_id == comparison.baseline.request.run_id)


def _candidates(
    comparison: pb.CompareExperimentsResponse, items: Sequence[ItemView], kinds: dict[str, Kind]
) -> tuple[Candidate, ...]:
    found = []
    for run in comparison.runs:
        run_id = run.request.run_id
        changes = changes_of(comparison, run_id, items, kinds)
        found.append(
            Candidate(
                run=run,
                metrics=tuple(its for its in comparison.metrics if its.run_id == run_id),
                regressed=tuple(its for its in changes if its.regressed),
                improved=tuple(its for its in changes if not its.regressed and its.improved),
                segments=tuple(compared_segments(comparison, run_id, kinds)),
            )
        )
    return tuple(found)


def _kinds(report: Report, metrics: Sequence[Metric]) -> dict[str, Kind]:
    kinds = {LATENCY: Kind.SECONDS, COST: Kind.USD, ERRORS: Kind.SHARE}
    if report.comparison:
        for run in (report.comparison.baseline, *report.comparison.runs):
            for its in run.evaluations:
                boolean, categorical = its.HasField("mean") and bool(its.counts), bool(its.counts)
                kinds[its.name] = kind_of(its.name, boolean=boolean, categorical=categorical)
    return {**kinds, **{metric.name: metric.kind for metric in metrics}}


def _lower_is_better(comparison: pb.CompareExperimentsResponse | None) -> frozenset[str]:
    told = {its.metric for its in comparison.metrics if its.lower_is_better} if comparison else set()
    return MEASURES | told


def _warnings(run: pb.ExperimentRun, items: Sequence[ItemView], metrics: Sequence[Metric]) -> list[str]:
    """What the run's own figures can't say."""
    said = []
    if run.state != pb.EXPERIMENT_STATE_COMPLETED:
        of = f" of {run.items_total:,}" if run.items_total else ""
        why = f" ({one_line(run.reason, 200)})" if run.reason else ""
        said.append(
            f"The run is {STATES.get(run.state, 'not begun')}{why}: the figures are of "
            f"{run.items_finished:,}{of} items."
        )
    if run.items_failed:
        share = shown(Kind.SHARE, run.items_failed / max(run.items_finished, 1))
        said.append(f"{count(run.items_failed, 'item')} ({share}) ended with an error and have no say in the metrics.")
    broken = [f"{one_line(its.name, 80)} ({its.errors:,})" for its in metrics if its.errors]
    if broken:
        said.append(f"Evaluators failed, so that these lack values: {', '.join(broken)}.")
    distinct = len({item.item_id for item in items}) or run.items_finished // max(run.request.repetitions, 1)
    if 0 < distinct < FEW_ITEMS:
        said.append(f"There are only {count(distinct, 'item')}: small differences can't be told from chance.")
    without = sum(item.usd is None for item in items)
    if items and without and without < len(items):
        said.append(f"Of {without:,} of {count(len(items), 'result')} no price is known; the cost is of the others.")
    elif not run.usage.HasField("cost_picodollars") and run.items_finished and without == len(items):
        said.append("No price of the model is known, so that there is no cost.")
    return said
