"""What a reader must know before relying on a comparison."""

from collections.abc import Iterator, Sequence

from lodestream_proto.v1.experiments_pb2 import (
    EXPERIMENT_STATE_COMPLETED,
    EXPERIMENT_STATE_PAUSED,
    EXPERIMENT_STATE_RUNNING,
    ExperimentRun,
    ExperimentState,
)

from services.read.query.experiments.comparing.asked import OWN, metric_name
from services.read.query.experiments.comparing.metrics import RunValues
from services.read.query.experiments.comparing.reading import RunRead
from services.read.query.experiments.statistics.comparison import Compared
from services.read.query.experiments.statistics.figures import count
from services.read.query.experiments.statistics.finding import Rules
from services.read.query.experiments.statistics.pairing import Kind


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
