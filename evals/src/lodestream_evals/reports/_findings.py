"""What a report is made of, and what it says, found out once; each format only shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.experiments_pb2 import CompareExperimentsResponse, ExperimentItem, ExperimentRun

from lodestream_evals.reports._changes import ItemChanges, changes_of
from lodestream_evals.reports._gate import GateVerdict, Outcome
from lodestream_evals.reports._metrics import COST, ERRORS, LATENCY, MEASURES, Metric, costs_of, metrics_of
from lodestream_evals.reports._readable import one_line
from lodestream_evals.reports._segments import Segment, compared_segments, segments_of
from lodestream_evals.reports._units import Kind, count, shown, signed
from lodestream_evals.reports._views import ItemView, Judgement, judgement, kind_of, of_run, view


@dataclass(frozen=True, slots=True)
class Report:
    """A run, its finished items, and what it is compared with."""

    run: ExperimentRun
    items: Sequence[ExperimentItem] = ()
    """Of the run; also of the runs in the comparison, which `run_id` tells apart, so that outputs can be shown side by
    side. With the dataset's item of each (`with_dataset_items`), inputs and segments are shown too."""
    comparison: CompareExperimentsResponse | None = None
    """With the run as one of the candidates."""
    gate: GateVerdict | None = None
    confidence: float = 0.95
    """The confidence of the comparison's intervals."""
    trace_url: str = ""
    """Where people look at a trace: an http(s) address with {trace_id} in it."""


# --- Findings ---------------------------------------------------------------------------------------------------------

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
    lower = {its.metric for its in comparison.metrics if its.lower_is_better} if comparison else set()
    return MEASURES | lower


def _warnings(run: pb.ExperimentRun, items: Sequence[ItemView], metrics: Sequence[Metric]) -> list[str]:
    """What the run's own figures can't say."""
    warnings = []
    if run.state != pb.EXPERIMENT_STATE_COMPLETED:
        of = f" of {run.items_total:,}" if run.items_total else ""
        why = f" ({one_line(run.reason, 200)})" if run.reason else ""
        warnings.append(
            f"The run is {STATES.get(run.state, 'not begun')}{why}: the figures are of "
            f"{run.items_finished:,}{of} items."
        )
    if run.items_failed:
        share = shown(Kind.SHARE, run.items_failed / max(run.items_finished, 1))
        warnings.append(
            f"{count(run.items_failed, 'item')} ({share}) ended with an error and have no say in the metrics."
        )
    broken = [f"{one_line(its.name, 80)} ({its.errors:,})" for its in metrics if its.errors]
    if broken:
        warnings.append(f"Evaluators failed, so that these lack values: {', '.join(broken)}.")
    distinct = len({item.item_id for item in items}) or run.items_finished // max(run.request.repetitions, 1)
    if 0 < distinct < FEW_ITEMS:
        warnings.append(f"There are only {count(distinct, 'item')}: small differences can't be told from chance.")
    without = sum(item.usd is None for item in items)
    if items and without and without < len(items):
        warnings.append(
            f"Of {without:,} of {count(len(items), 'result')} no price is known; the cost is of the others."
        )
    elif not run.usage.HasField("cost_picodollars") and run.items_finished and without == len(items):
        warnings.append("No price of the model is known, so that there is no cost.")
    return warnings


# --- The headline -----------------------------------------------------------------------------------------------------

_MOST_NAMED = 3


def headline(
    run: pb.ExperimentRun,
    metrics: Sequence[Metric],
    comparison: pb.CompareExperimentsResponse | None,
    gate: GateVerdict | None,
    kinds: Mapping[str, Kind],
) -> str:
    """The gate's verdict, or what the comparison shows, or what the run came to."""
    if gate is not None:
        return _of_gate(gate)
    if comparison is None:
        return _of_run(run, metrics)
    # Quality first, a loss before a gain.
    shown_ones = sorted(
        (its for its in comparison.metrics if _shown(its)),
        key=lambda its: (its.metric in MEASURES, its.verdict != pb.METRIC_VERDICT_WORSE),
    )
    changes = [f"{_name(comparison, its)} {_change(its, kinds)}" for its in shown_ones]
    if changes:
        return f"{_list(changes)}."
    judged = [its for its in comparison.metrics if its.verdict == pb.METRIC_VERDICT_NOT_SHOWN]
    if not judged:
        return "Nothing could be compared."
    return "No difference is shown, which is not to say that there is none."


def _of_gate(gate: GateVerdict) -> str:
    failed = [one_line(check.name, 80) for check in gate.checks if check.outcome is Outcome.FAILED]
    open_ones = [check for check in gate.checks if check.outcome is Outcome.CANNOT_JUDGE]
    match gate.outcome:
        case Outcome.PASSED:
            return f"The gate passed: {count(len(gate.checks), 'check')}, all kept."
        case Outcome.FAILED:
            return f"The gate failed: {_list(failed)}."
        case _:
            first = f": {one_line(open_ones[0].name, 80)}: {one_line(open_ones[0].reason, 300)}" if open_ones else ""
            return f"The gate can't judge{first}."


def _of_run(run: pb.ExperimentRun, metrics: Sequence[Metric]) -> str:
    means = [f"{one_line(its.name, 80)} {shown(its.kind, its.mean)}" for its in metrics if its.mean is not None]
    failed = f"{count(run.items_failed, 'item')} failed" if run.items_failed else "no item failed"
    return f"{_list(means)}; {failed}." if means else f"{count(run.items_finished, 'item')} finished; {failed}."


def _shown(its: pb.MetricComparison) -> bool:
    return its.verdict in {pb.METRIC_VERDICT_BETTER, pb.METRIC_VERDICT_WORSE}


def _name(comparison: pb.CompareExperimentsResponse, its: pb.MetricComparison) -> str:
    name = one_line(its.metric, 80)
    if len(comparison.runs) < 2:
        return name
    run = next((run.request.name for run in comparison.runs if run.request.run_id == its.run_id), its.run_id)
    return f"{name} of {one_line(run, 80)}"


def _change(its: pb.MetricComparison, kinds: Mapping[str, Kind]) -> str:
    word = "got better" if its.verdict == pb.METRIC_VERDICT_BETTER else "got worse"
    if not its.HasField("difference"):
        return word
    kind = kinds.get(its.metric, Kind.NUMBER)
    return f"{word} ({signed(kind, its.difference)})"


def _list(parts: Sequence[str]) -> str:
    named = list(parts[:_MOST_NAMED])
    if len(parts) > _MOST_NAMED:
        named.append(f"{len(parts) - _MOST_NAMED} more")
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}" if named else ""
