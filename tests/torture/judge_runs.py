"""Runs of evaluation workers: every item has one result, told in one way, with its trace and its scores, and every run
comes to its end, whatever the workers went through.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.torture.contract import Content, LogEvent, readable
from tests.torture.experiments_model import COMPLETED, PAUSED, RUNNING
from tests.torture.findings import Finding, Kind
from tests.torture.model import Row, Tables
from tests.torture.wire import LogRecord

Run = tuple[str, str]
"""A project and the id of a run."""


@dataclass(frozen=True, slots=True)
class Workers:
    """What evaluation workers told, and no program."""

    experiments: Sequence[LogEvent]
    """How items and runs ended."""
    scores: Sequence[LogEvent]
    traces: frozenset[tuple[str, str]]
    """Projects and ids of traces."""


def told_by_workers(experiments: Sequence[LogEvent], scores: Sequence[LogEvent], decided: Tables) -> Workers:
    """All that follows from the results of runs whose task is a prompt."""
    runs = {run for run, row in decided["experiments.experiment_runs"].items() if _is_of_workers(row)}
    endings = [
        event
        for event in readable(experiments)
        if event.kind in {"experiment_item_finished", "experiment_finished"}
        and (event.project, event.content["run_id"]) in runs
    ]
    ids = {
        (event.project, evaluation["score_id"])
        for event in endings
        for evaluation in event.content.get("evaluations", [])
        if "score_id" in evaluation
    }
    given = [each for each in readable(scores) if (each.project, each.content.get("score_id")) in ids]
    traces = frozenset((event.project, event.content["trace_id"]) for event in endings if "trace_id" in event.content)
    return Workers(endings, given, traces)


def judge_runs(workers: Workers, records: Sequence[LogRecord], decided: Tables) -> Iterator[Finding]:
    """What came of the runs, held against what the log says they were to be of."""
    items = decided["experiments.dataset_items"]
    results: dict[Run, dict[tuple[str, int], Row]] = defaultdict(dict)
    for (project, run_id, item_id, repetition), row in decided["experiments.experiment_items"].items():
        results[project, run_id][item_id, repetition] = row
    for run, row in decided["experiments.experiment_runs"].items():
        if _is_of_workers(row):
            yield from _ended(run, row)
            yield from _each_item_once(run, row, _wanted(run[0], row["request"], items), results[run])
    yield from _told_in_one_way(workers)
    yield from _traces(workers, records)
    yield from _scores(workers)


def _is_of_workers(run: Row) -> bool:
    return bool(json.loads(run["request"]["task_json"])["kind"] == "prompt")


def _wanted(project: str, request: Content, items: Mapping[tuple[Any, ...], Row]) -> set[tuple[str, int]]:
    """The items of the dataset at the version, as often as they are repeated."""
    version, splits = request["dataset_version"], set(request.get("splits", []))
    held = {
        item_id
        for (its_project, dataset_id, item_id, since), row in items.items()
        if (its_project, dataset_id) == (project, request["dataset_id"])
        and since <= version < (row["until_version"] or float("inf"))
        and not row["archived"]
        and (not splits or splits & set(row["splits"]))
    }
    return {(item_id, repetition) for item_id in held for repetition in range(request["repetitions"])}


def _ended(run: Run, row: Row) -> Iterator[Finding]:
    if row["state"] in {RUNNING, PAUSED}:
        yield Finding(Kind.LOST, "a run that did not come to its end in time", "/".join(run))
    elif row["state"] != COMPLETED and not row["reason"]:
        yield Finding(Kind.LOST, "a run that ended without a reason", "/".join(run))


def _each_item_once(
    run: Run, row: Row, wanted: set[tuple[str, int]], results: Mapping[tuple[str, int], Row]
) -> Iterator[Finding]:
    for place in results.keys() - wanted:
        yield Finding(Kind.INVENTED, "a result of an item that the run is not of", f"{'/'.join(run)} {place}")
    if row["state"] == COMPLETED:
        for place in wanted - results.keys():
            yield Finding(Kind.LOST, "a completed run without the result of an item", f"{'/'.join(run)} {place}")


def _told_in_one_way(workers: Workers) -> Iterator[Finding]:
    """A result is decided before it is told, so that what is told again is equal."""
    first: dict[tuple[Any, ...], LogEvent] = {}
    for event in (*workers.experiments, *workers.scores):
        content = event.content
        item = content.get("item_id"), content.get("repetition", 0)
        key = event.project, event.kind, content.get("run_id"), *item, content.get("score_id")
        known = first.setdefault(key, event)
        if (known.content, known.event_id) != (content, event.event_id):
            yield Finding(Kind.DUPLICATED, "a result told in two ways", f"{known.where} and {event.where}")


def _traces(workers: Workers, records: Sequence[LogRecord]) -> Iterator[Finding]:
    """Each result has a trace, each span of which is told in one way; before the result, so that it is there."""
    spans: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for record in records:
        for span in record.spans:
            if (trace := (record.project, span.trace)) in workers.traces:
                spans[trace][span.span].add(span.bytes_digest)
    for trace in workers.traces:
        if trace not in spans:
            yield Finding(Kind.LOST, "a result without its trace", "/".join(trace))
        for span_id, digests in spans[trace].items():
            if len(digests) > 1:
                yield Finding(Kind.DUPLICATED, "a span of a result told in two ways", f"{'/'.join(trace)}/{span_id}")


def _scores(workers: Workers) -> Iterator[Finding]:
    """Each evaluation has a score that says the same."""
    given = {(event.project, event.content["score_id"]): event for event in workers.scores}
    for event in workers.experiments:
        for evaluation in event.content.get("evaluations", []):
            if "score_id" not in evaluation:
                continue
            where = f"{event.where}, evaluation {evaluation['name']}"
            score = given.get((event.project, evaluation["score_id"]))
            if score is None:
                yield Finding(Kind.LOST, "an evaluation without its score", where)
            elif (score.content["name"], _value(score.content["value"])) != (evaluation["name"], _value(evaluation)):
                yield Finding(Kind.ALTERED, "a score that is not what the evaluation says", where)


def _value(content: Content) -> tuple[str, Any]:
    return next((name, content[name]) for name in ("numeric", "categorical", "boolean", "text") if name in content)
