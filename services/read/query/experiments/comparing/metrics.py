"""What is compared of runs: what evaluators said, and the failures, latencies and costs that each run has by itself."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lodestream_proto.v1.score_event_pb2 import (
    SCORE_TYPE_BOOLEAN,
    SCORE_TYPE_CATEGORICAL,
    SCORE_TYPE_NUMERIC,
    SCORE_TYPE_TEXT,
)

from services.read.query.experiments.comparing.asked import OWN, Asked, metric_name
from services.read.query.experiments.comparing.reading import RunRead
from services.read.query.experiments.statistics.comparison import Metric, Run
from services.read.query.experiments.statistics.figures import Unit
from services.read.query.experiments.statistics.pairing import Kind, Values

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
