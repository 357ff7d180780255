"""The answer of CompareExperiments, made of what was read of its runs.

Slow to import, for SciPy is, and slow to run where runs are large: it belongs in a thread.
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

from services.read.query.experiments.compare import OWN, Asked, RunRead, metadata_of, metric_name
from services.read.query.experiments.statistics.comparison import (
    Compared,
    Metric,
    Run,
    changes,
    compare,
    keys_to_look_by,
    segments,
)
from services.read.query.experiments.statistics.finding import Rules
from services.read.query.experiments.statistics.pairing import Kind, Values, mean, most_frequent
from services.read.query.experiments.statistics.wording import Unit, count

_MOST_SEGMENTS = 5_000


def answer(asked: Asked, runs: Sequence[ExperimentRun], read: Sequence[RunRead]) -> CompareExperimentsResponse:
    """Everything but how fresh it is. The baseline comes first in `runs` and in `read`."""
    rules = Rules(confidence=asked.confidence, seed=asked.seed)
    values = [values_of(each) for each in read]
    baseline, *candidates = [each.run for each in values]
    compared = compare(baseline, candidates, metrics_to_compare(asked, [baseline, *candidates]), rules)
    by_run = {each.run.run_id: each.run.values for each in values}
    items, left_out = changed_items(compared, {each.run_id: each for each in read}, read[0], by_run)
    metadata = {item: metadata_of(known) for item, known in read[0].dataset_items.items() if item in read[0].items}
    keys, in_vain = keys_to_look_by(metadata, asked.segment_by)
    by_segment = list(islice(segments(compared, metadata, keys), _MOST_SEGMENTS + 1))
    cautions = [*cautions_of_runs(runs, read, values), *cautions_of_metrics(compared, rules), *in_vain]
    if left_out:
        cautions.append(f"{left_out:,} changed items are not listed: those that differ least, metric by metric")
    if len(by_segment) > _MOST_SEGMENTS:
        cautions.append(f"only the first {_MOST_SEGMENTS:,} segments are listed; ask for fewer metrics or runs")
    return CompareExperimentsResponse(
        baseline=runs[0],
        runs=runs[1:],
        metrics=[each.said for each in compared],
        items=items,
        segments=by_segment[:_MOST_SEGMENTS],
        warnings=dict.fromkeys(cautions),
    )


_ERRORS = Metric("errors", lower_is_better=True)
_LATENCY = Metric("latency", lower_is_better=True, unit=Unit.SECONDS)
_COST = Metric("cost", lower_is_better=True, unit=Unit.DOLLARS, is_a_total=True)
_MICRO, _PICO = 10**6, 10**12
_KINDS: dict[int, Kind] = {
    SCORE_TYPE_NUMERIC: Kind.NUMBER,
    SCORE_TYPE_BOOLEAN: Kind.BOOLEAN,
    SCORE_TYPE_CATEGORICAL: Kind.CATEGORY,
    SCORE_TYPE_TEXT: Kind.TEXT,
}
_FAILED = 0
"""The type of an evaluation whose evaluator failed."""


@dataclass(frozen=True, slots=True)
class RunValues:
    """What a run has by metric, and of how many items evaluators failed, by name."""

    run: Run
    evaluators_failed: dict[str, int]


def values_of(read: RunRead) -> RunValues:
    """An item whose task failed has no latency and no cost; it has what evaluators said of it nevertheless."""
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
        if types[name] and not _is_told_by_the_run(name, types[name])
    }
    return RunValues(Run(read.run_id, values | _own(read)), {name: count for name, count in failed.items() if count})


def metrics_to_compare(asked: Asked, runs: Sequence[Run]) -> list[Metric]:
    """Those asked for, or all but texts and costs that nobody knows; failures always.

    A run must not look better for failing on the items that are hard.
    """
    known = {name for run in runs for name, values in run.values.items() if values.kind is not Kind.TEXT}
    wanted = set(asked.metrics) or known
    evaluated = [Metric(name, lower_is_better=name in asked.lower_is_better) for name in sorted(wanted - set(OWN))]
    return [*evaluated, _ERRORS, *(metric for metric in (_LATENCY, _COST) if metric.name in wanted)]


def _own(read: RunRead) -> dict[str, Values]:
    failures, latencies, costs = {}, {}, {}
    for item, row in read.items.items():
        failures[item] = [float(each) for each in row["failed"]]
        done = [n for n, each in enumerate(row["failed"]) if not each]
        latencies[item] = [row["latencies_us"][n] / _MICRO for n in done]
        costs[item] = [cost / _PICO for n in done if (cost := row["costs_picodollars"][n]) is not None]
    own = {_ERRORS.name: Values(Kind.BOOLEAN, failures), _LATENCY.name: Values(Kind.NUMBER, latencies)}
    return own | ({_COST.name: Values(Kind.NUMBER, costs)} if any(costs.values()) else {})


def _is_told_by_the_run(name: str, types: set[int]) -> bool:
    """The evaluators "latency" and "cost" without a bound say what is known without them."""
    return name in {_LATENCY.name, _COST.name} and types == {SCORE_TYPE_NUMERIC}


def _kind(types: set[int]) -> Kind:
    return _KINDS.get(next(iter(types)), Kind.MIXED) if len(types) == 1 else Kind.MIXED


def _finite(numbers: Iterable[float | None]) -> list[float]:
    return [number for number in numbers if number is not None and math.isfinite(number)]


_MOST, _FEWEST = 5_000, 10
_MOST_BYTES = 2 * 1024 * 1024
_ORDER = (ITEM_CHANGE_REGRESSED, ITEM_CHANGE_MISSING, ITEM_CHANGE_UNSPECIFIED, ITEM_CHANGE_IMPROVED)
_Change = tuple[float, str, ItemChange.ValueType]
"""How far it changed, the item, and how."""


def changed_items(
    compared: Sequence[Compared],
    runs: Mapping[str, RunRead],
    baseline: RunRead,
    values: Mapping[str, Mapping[str, Values]],
) -> tuple[list[ItemComparison], int]:
    """By comparison, regressed items first, the largest changes first; and how many there are that are not listed."""
    each_at_most = max(_FEWEST, _MOST // max(1, len(compared)))
    listed: list[ItemComparison] = []
    left_out, room = 0, _MOST_BYTES
    for each in compared:
        found = list(_changes(each))
        kept = sorted(sorted(found, key=lambda change: (-change[0], change[1]))[:each_at_most], key=_place)
        left_out += len(found) - len(kept)
        for change in kept:
            row = _row(change, each, baseline, runs[each.said.run_id], values)
            room -= row.ByteSize()
            if room < 0:
                left_out += 1
            else:
                listed.append(row)
    return listed, left_out


def _changes(compared: Compared) -> Iterator[_Change]:
    pairs = compared.pairs
    for item in pairs.missing:
        yield 0.0, item, ITEM_CHANGE_MISSING
    if compared.kind is Kind.CATEGORY:
        for item, theirs, ours in zip(pairs.items, pairs.baseline_labels, pairs.run_labels, strict=True):
            if theirs != ours:
                yield 1.0, item, ITEM_CHANGE_UNSPECIFIED
        return
    for item, better_by in changes(compared):
        if better_by:
            yield abs(better_by), item, ITEM_CHANGE_IMPROVED if better_by > 0 else ITEM_CHANGE_REGRESSED


def _place(change: _Change) -> tuple[int, float, str]:
    size, item, how = change
    return _ORDER.index(how), -size, item


def _row(
    change: _Change, compared: Compared, baseline: RunRead, run: RunRead, values: Mapping[str, Mapping[str, Values]]
) -> ItemComparison:
    _, item, how = change
    metric = compared.said.metric
    theirs, ours = values[baseline.run_id].get(metric), values[run.run_id].get(metric)
    known = baseline.dataset_items.get(item) or run.dataset_items.get(item)
    return ItemComparison(
        run_id=run.run_id,
        item_id=item,
        metric=metric,
        change=how,
        baseline_value=_number(theirs, item),
        run_value=_number(ours, item),
        baseline_category=_category(theirs, item),
        run_category=_category(ours, item),
        baseline_trace_id=_trace_id(baseline, item),
        run_trace_id=_trace_id(run, item),
        input_preview=known.input_preview if known else "",
        baseline_error=baseline.failures.get(item, ""),
        run_error=run.failures.get(item, ""),
    )


def _number(values: Values | None, item: str) -> float | None:
    told: Iterable[float] = values.numbers.get(item, ()) if values and values.kind is not Kind.CATEGORY else ()
    return mean(told) if told else None


def _category(values: Values | None, item: str) -> str:
    told = values.labels.get(item, ()) if values and values.kind is Kind.CATEGORY else ()
    return most_frequent(told) if told else ""


def _trace_id(run: RunRead, item: str) -> str:
    row = run.items.get(item)
    return row["trace_id"].hex() if row and row["trace_id"] else ""


def cautions_of_runs(runs: Sequence[ExperimentRun], read: Sequence[RunRead], values: Sequence[RunValues]) -> list[str]:
    """The baseline first, then each candidate as it is beside the baseline."""
    told: list[str] = []
    for run, its, has in zip(runs, read, values, strict=True):
        told += _of_run(run, its, has)
    for its in read[1:]:
        told += _beside(read[0], its)
    return list(dict.fromkeys(told))


def cautions_of_metrics(compared: Sequence[Compared], rules: Rules) -> Iterator[str]:
    """Metrics that can't be compared, and comparisons that too few items can decide."""
    for each in compared:
        said = each.said
        if each.kind in {Kind.MIXED, Kind.TEXT}:
            yield said.summary
        elif 0 < said.pairs < rules.least_pairs:
            yield f"{said.metric}: only {count(said.pairs)} in both runs, which is too few to show a difference"


def _of_run(run: ExperimentRun, read: RunRead, values: RunValues) -> Iterator[str]:
    if run.state in {EXPERIMENT_STATE_RUNNING, EXPERIMENT_STATE_PAUSED}:
        of = f" of {run.items_total:,}" if run.items_total else ""
        yield f"{read.name} is not done: {run.items_finished:,}{of} results are there"
    elif run.state != EXPERIMENT_STATE_COMPLETED:
        state = ExperimentState.Name(run.state).removeprefix("EXPERIMENT_STATE_").replace("_", " ").lower()
        because = f": {run.reason}" if run.reason else ""
        yield f"{read.name} did not come to its end, {state}{because}"
    failed = sum(any(row["failed"]) for row in read.items.values())
    if failed:
        yield f"the task failed on {count(failed)} of {read.name}: compared as errors, and without latency and cost"
    for name, items in sorted(values.evaluators_failed.items()):
        yield f"the evaluator {name!r} failed on {count(items)} of {read.name}, which have no value or fewer of it"
    for name in sorted({row["name"] for row in read.evaluations} & set(OWN)):
        if metric_name(name) in values.run.values:
            yield f"the evaluation {name!r} is compared as {metric_name(name)!r}: {name!r} is the run's own figure"
    for name, revisions in sorted(read.revisions.items()):
        if len(revisions) > 1:
            yield f"the evaluator {name!r} had {len(revisions)} revisions within {read.name}"


def _beside(baseline: RunRead, run: RunRead) -> Iterator[str]:
    theirs, ours = baseline.request, run.request
    if theirs.dataset_id != ours.dataset_id:
        yield f"{baseline.name} and {run.name} are not over the same dataset; items are paired by their ids"
    elif baseline.row["dataset_version"] != run.row["dataset_version"]:
        yield _other_version(baseline, run)
    if sorted(theirs.splits) != sorted(ours.splits):
        yield f"{baseline.name} and {run.name} are of different splits"
    if theirs.repetitions != ours.repetitions:
        yield (
            f"{baseline.name} has {count(theirs.repetitions, 'repetition')} and {run.name} has "
            f"{count(ours.repetitions, 'repetition')}; each item counts once, with the mean of its own"
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


def _other_version(baseline: RunRead, run: RunRead) -> str:
    asked_otherwise = sum(
        baseline.dataset_items[item].digest != run.dataset_items[item].digest
        for item in baseline.items.keys() & run.items.keys()
        if item in baseline.dataset_items and item in run.dataset_items
    )
    versions = f"{baseline.row['dataset_version']} and {run.row['dataset_version']}"
    changed = (
        f"{count(asked_otherwise)} in both changed in between" if asked_otherwise else "the items in both are the same"
    )
    return f"{baseline.name} and {run.name} are over versions {versions} of the dataset; {changed}"
