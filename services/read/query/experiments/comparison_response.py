"""The answer of CompareExperiments, made of what was read of its runs.

Slow to import, for SciPy is, and slow to run where runs are large: it belongs in a process of its own.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from lodestream_proto.v1.experiments_pb2 import (
    EXPERIMENT_STATE_COMPLETED,
    EXPERIMENT_STATE_PAUSED,
    EXPERIMENT_STATE_RUNNING,
    ITEM_CHANGE_IMPROVED,
    ITEM_CHANGE_MISSING,
    ITEM_CHANGE_REGRESSED,
    ITEM_CHANGE_UNSPECIFIED,
    CompareExperimentsResponse,
    ExperimentRun,
    ExperimentState,
    ItemChange,
    ItemComparison,
)
from lodestream_proto.v1.score_event_pb2 import (
    SCORE_TYPE_BOOLEAN,
    SCORE_TYPE_CATEGORICAL,
    SCORE_TYPE_NUMERIC,
    SCORE_TYPE_TEXT,
)

from services.read.query.experiments.compare import OWN_METRICS, ComparisonRequest, RunData, metadata_of, metric_name
from services.read.query.experiments.statistics.comparison import (
    ComparedMetric,
    Metric,
    RunMetrics,
    changes,
    compare,
    segment_keys,
    segments,
)
from services.read.query.experiments.statistics.finding import Rules
from services.read.query.experiments.statistics.pairing import ValueKind, Values, mean, most_frequent
from services.read.query.experiments.statistics.wording import Unit, count
from services.read.query.money import to_dollars

_MAX_SEGMENTS = 5_000
_ERRORS = Metric("errors", lower_is_better=True)
_LATENCY = Metric("latency", lower_is_better=True, unit=Unit.SECONDS)
_COST = Metric("cost", lower_is_better=True, unit=Unit.DOLLARS, is_a_total=True)
_MICROSECONDS_PER_SECOND = 10**6
_KINDS: dict[int, ValueKind] = {
    SCORE_TYPE_NUMERIC: ValueKind.NUMBER,
    SCORE_TYPE_BOOLEAN: ValueKind.BOOLEAN,
    SCORE_TYPE_CATEGORICAL: ValueKind.CATEGORY,
    SCORE_TYPE_TEXT: ValueKind.TEXT,
}
_FAILED = 0
"""The type of an evaluation whose evaluator failed."""
_MAX_CHANGES, _MIN_CHANGES = 5_000, 10  # of all comparisons; of each one, however many they are
_MAX_CHANGES_BYTES = 2 * 1024 * 1024
_ORDER = (ITEM_CHANGE_REGRESSED, ITEM_CHANGE_MISSING, ITEM_CHANGE_UNSPECIFIED, ITEM_CHANGE_IMPROVED)
_Change = tuple[float, str, ItemChange.ValueType]
"""How far an item changed, its id, and in which direction."""


def response_of(
    request: ComparisonRequest, runs: Sequence[ExperimentRun], data: Sequence[RunData]
) -> CompareExperimentsResponse:
    """Return the response without its freshness. The baseline comes first in `runs` and in `data`."""
    rules = Rules(confidence=request.confidence, seed=request.seed)
    values = [values_of(each) for each in data]
    baseline, *candidates = [each.run for each in values]
    compared = compare(baseline, candidates, metrics_to_compare(request, [baseline, *candidates]), rules)
    by_run = {each.run.run_id: each.run.values for each in values}
    items, left_out = changed_items(compared, {each.run_id: each for each in data}, data[0], by_run)
    metadata = {
        item: metadata_of(item_data) for item, item_data in data[0].dataset_items.items() if item in data[0].items
    }
    keys, key_warnings = segment_keys(metadata, request.segment_by)
    by_segment = list(islice(segments(compared, metadata, keys), _MAX_SEGMENTS + 1))
    warnings = [*warnings_of_runs(runs, data, values), *warnings_of_metrics(compared, rules), *key_warnings]
    if left_out:
        warnings.append(f"{left_out:,} changed items are not listed: those that differ least, metric by metric")
    if len(by_segment) > _MAX_SEGMENTS:
        warnings.append(f"only the first {_MAX_SEGMENTS:,} segments are listed; ask for fewer metrics or runs")
    return CompareExperimentsResponse(
        baseline=runs[0],
        runs=runs[1:],
        metrics=[each.message for each in compared],
        items=items,
        segments=by_segment[:_MAX_SEGMENTS],
        warnings=dict.fromkeys(warnings),
    )


@dataclass(frozen=True, slots=True)
class RunValues:
    """The values of a run by metric, and the number of items that evaluators failed on, by name."""

    run: RunMetrics
    evaluators_failed: dict[str, int]


def values_of(read: RunData) -> RunValues:
    """Return the values of a run. An item whose task failed has no latency and no cost, but it has its evaluations."""
    numbers: dict[str, dict[str, list[float]]] = defaultdict(dict)
    labels: dict[str, dict[str, list[str]]] = defaultdict(dict)
    types: dict[str, set[int]] = defaultdict(set)
    failed: dict[str, int] = defaultdict(int)
    for row in read.evaluations:
        name = row["name"]
        types[name] |= {each for each in row["types"] if each != _FAILED}
        failed[name] += _FAILED in row["types"]
        numbers[name][row["item_id"]] = _finite(row["numbers"])
        labels[name][row["item_id"]] = [each for each in row["labels"] if each is not None]
    values = {
        metric_name(name): Values(_kind(types[name]), numbers[name], labels[name])
        for name in types
        if types[name] and not _repeats_own_metric(name, types[name])
    }
    return RunValues(
        RunMetrics(read.run_id, values | _own(read)), {name: count for name, count in failed.items() if count}
    )


def metrics_to_compare(request: ComparisonRequest, runs: Sequence[RunMetrics]) -> list[Metric]:
    """Return the metrics that the request names, or all but texts and unknown costs; failures always.

    A run must not look better for failing on hard items.
    """
    all_metrics = {name for run in runs for name, values in run.values.items() if values.kind is not ValueKind.TEXT}
    metrics = set(request.metrics) or all_metrics
    evaluated = [
        Metric(name, lower_is_better=name in request.lower_is_better) for name in sorted(metrics - set(OWN_METRICS))
    ]
    return [*evaluated, _ERRORS, *(metric for metric in (_LATENCY, _COST) if metric.name in metrics)]


def _own(read: RunData) -> dict[str, Values]:
    failures, latencies, costs = {}, {}, {}
    for item, row in read.items.items():
        failures[item] = [float(each) for each in row["failed"]]
        done = [n for n, each in enumerate(row["failed"]) if not each]
        latencies[item] = [row["latencies_us"][n] / _MICROSECONDS_PER_SECOND for n in done]
        costs[item] = [to_dollars(cost) for n in done if (cost := row["costs_picodollars"][n]) is not None]
    own = {_ERRORS.name: Values(ValueKind.BOOLEAN, failures), _LATENCY.name: Values(ValueKind.NUMBER, latencies)}
    return own | ({_COST.name: Values(ValueKind.NUMBER, costs)} if any(costs.values()) else {})


def _repeats_own_metric(name: str, types: set[int]) -> bool:
    """Return whether an evaluation only repeats a figure of the run: "latency" and "cost" without a bound do."""
    return name in {_LATENCY.name, _COST.name} and types == {SCORE_TYPE_NUMERIC}


def _kind(types: set[int]) -> ValueKind:
    return _KINDS.get(next(iter(types)), ValueKind.MIXED) if len(types) == 1 else ValueKind.MIXED


def _finite(numbers: Iterable[float | None]) -> list[float]:
    return [number for number in numbers if number is not None and math.isfinite(number)]


def changed_items(
    compared: Sequence[ComparedMetric],
    runs: Mapping[str, RunData],
    baseline: RunData,
    values: Mapping[str, Mapping[str, Values]],
) -> tuple[list[ItemComparison], int]:
    """Return the items that changed, by comparison, and how many are left out.

    Regressed items come first, and of each direction the largest changes.
    """
    each_at_most = max(_MIN_CHANGES, _MAX_CHANGES // max(1, len(compared)))
    listed: list[ItemComparison] = []
    left_out, room = 0, _MAX_CHANGES_BYTES
    for each in compared:
        all_changes = list(_changes(each))
        kept = sorted(sorted(all_changes, key=lambda change: (-change[0], change[1]))[:each_at_most], key=_list_order)
        left_out += len(all_changes) - len(kept)
        for change in kept:
            row = _row(change, each, baseline, runs[each.message.run_id], values)
            room -= row.ByteSize()
            if room < 0:
                left_out += 1
            else:
                listed.append(row)
    return listed, left_out


def _changes(compared: ComparedMetric) -> Iterator[_Change]:
    pairs = compared.pairs
    for item in pairs.missing:
        yield 0.0, item, ITEM_CHANGE_MISSING
    if compared.kind is ValueKind.CATEGORY:
        for item, before, after in zip(pairs.items, pairs.baseline_labels, pairs.run_labels, strict=True):
            if before != after:
                yield 1.0, item, ITEM_CHANGE_UNSPECIFIED
        return
    for item, better_by in changes(compared):
        if better_by:
            yield abs(better_by), item, ITEM_CHANGE_IMPROVED if better_by > 0 else ITEM_CHANGE_REGRESSED


def _list_order(change: _Change) -> tuple[int, float, str]:
    size, item, how = change
    return _ORDER.index(how), -size, item


def _row(
    change: _Change,
    compared: ComparedMetric,
    baseline: RunData,
    run: RunData,
    values: Mapping[str, Mapping[str, Values]],
) -> ItemComparison:
    _, item, how = change
    metric = compared.message.metric
    baseline_values, run_values = values[baseline.run_id].get(metric), values[run.run_id].get(metric)
    item_data = baseline.dataset_items.get(item) or run.dataset_items.get(item)
    return ItemComparison(
        run_id=run.run_id,
        item_id=item,
        metric=metric,
        change=how,
        baseline_value=_number(baseline_values, item),
        run_value=_number(run_values, item),
        baseline_category=_category(baseline_values, item),
        run_category=_category(run_values, item),
        baseline_trace_id=_trace_id(baseline, item),
        run_trace_id=_trace_id(run, item),
        input_preview=item_data.input_preview if item_data else "",
        baseline_error=baseline.failures.get(item, ""),
        run_error=run.failures.get(item, ""),
    )


def _number(values: Values | None, item: str) -> float | None:
    numbers: Iterable[float] = values.numbers.get(item, ()) if values and values.kind is not ValueKind.CATEGORY else ()
    return mean(numbers) if numbers else None


def _category(values: Values | None, item: str) -> str:
    labels = values.labels.get(item, ()) if values and values.kind is ValueKind.CATEGORY else ()
    return most_frequent(labels) if labels else ""


def _trace_id(run: RunData, item: str) -> str:
    row = run.items.get(item)
    return row["trace_id"].hex() if row and row["trace_id"] else ""


def warnings_of_runs(runs: Sequence[ExperimentRun], data: Sequence[RunData], values: Sequence[RunValues]) -> list[str]:
    """Return the warnings of each run, the baseline's first, then those of each candidate and the baseline."""
    warnings: list[str] = []
    for run, run_data, run_values in zip(runs, data, values, strict=True):
        warnings += _warnings_of_run(run, run_data, run_values)
    for candidate in data[1:]:
        warnings += _warnings_of_pair(data[0], candidate)
    return list(dict.fromkeys(warnings))


def warnings_of_metrics(compared: Sequence[ComparedMetric], rules: Rules) -> Iterator[str]:
    """Yield a warning for each metric that can't be compared, and for each that has too few items."""
    for each in compared:
        message = each.message
        if each.kind in {ValueKind.MIXED, ValueKind.TEXT}:
            yield message.summary
        elif 0 < message.pairs < rules.least_pairs:
            yield f"{message.metric}: only {count(message.pairs)} in both runs, which is too few to show a difference"


def _warnings_of_run(run: ExperimentRun, data: RunData, values: RunValues) -> Iterator[str]:
    if run.state in {EXPERIMENT_STATE_RUNNING, EXPERIMENT_STATE_PAUSED}:
        of = f" of {run.items_total:,}" if run.items_total else ""
        yield f"{data.name} is not done: {run.items_finished:,}{of} results are there"
    elif run.state != EXPERIMENT_STATE_COMPLETED:
        state = ExperimentState.Name(run.state).removeprefix("EXPERIMENT_STATE_").replace("_", " ").lower()
        because = f": {run.reason}" if run.reason else ""
        yield f"{data.name} did not come to its end, {state}{because}"
    failed = sum(any(row["failed"]) for row in data.items.values())
    if failed:
        yield f"the task failed on {count(failed)} of {data.name}: compared as errors, and without latency and cost"
    for name, items in sorted(values.evaluators_failed.items()):
        yield f"the evaluator {name!r} failed on {count(items)} of {data.name}, which have no value or fewer of it"
    for name in sorted({row["name"] for row in data.evaluations} & set(OWN_METRICS)):
        if metric_name(name) in values.run.values:
            yield f"the evaluation {name!r} is compared as {metric_name(name)!r}: {name!r} is the run's own figure"
    for name, revisions in sorted(data.revisions.items()):
        if len(revisions) > 1:
            yield f"the evaluator {name!r} had {len(revisions)} revisions within {data.name}"


def _warnings_of_pair(baseline: RunData, run: RunData) -> Iterator[str]:
    baseline_request, run_request = baseline.request, run.request
    if baseline_request.dataset_id != run_request.dataset_id:
        yield f"{baseline.name} and {run.name} are not over the same dataset; items are paired by their ids"
    elif baseline.row["dataset_version"] != run.row["dataset_version"]:
        yield _other_version(baseline, run)
    if sorted(baseline_request.splits) != sorted(run_request.splits):
        yield f"{baseline.name} and {run.name} are of different splits"
    if baseline_request.repetitions != run_request.repetitions:
        yield (
            f"{baseline.name} has {count(baseline_request.repetitions, 'repetition')} and {run.name} has "
            f"{count(run_request.repetitions, 'repetition')}; each item counts once, with the mean of its own"
        )
    for one, other in ((baseline, run), (run, baseline)):
        if only := len(one.items.keys() - other.items.keys()):
            yield f"{count(only)} of {one.name} not in {other.name}: left out"
    for name in sorted(baseline.revisions.keys() & run.revisions.keys()):
        if baseline.revisions[name] != run.revisions[name]:
            yield (
                f"the evaluator {name!r} is not of the same revision in {baseline.name} and {run.name}: "
                "a difference may be the evaluator's"
            )


def _other_version(baseline: RunData, run: RunData) -> str:
    changed_items = sum(
        baseline.dataset_items[item].digest != run.dataset_items[item].digest
        for item in baseline.items.keys() & run.items.keys()
        if item in baseline.dataset_items and item in run.dataset_items
    )
    versions = f"{baseline.row['dataset_version']} and {run.row['dataset_version']}"
    changed = (
        f"{count(changed_items)} in both changed in between" if changed_items else "the items in both are the same"
    )
    return f"{baseline.name} and {run.name} are over versions {versions} of the dataset; {changed}"
