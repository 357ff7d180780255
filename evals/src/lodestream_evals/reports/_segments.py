"""Where a run struggled: its metrics by the metadata of the items."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lodestream_proto.v1.experiments_pb2 import CompareExperimentsResponse

from lodestream_evals.reports._metrics import Metric
from lodestream_evals.reports._units import Kind
from lodestream_evals.reports._views import ItemView

FAILED = "failed items"
_MOST_VALUES = 20  # a key with more is an id, not a segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A metric over the items that have this value of this key."""

    metric: str
    kind: Kind
    key: str
    value: str
    count: int
    mean: float
    against: float | None
    """What it is held against: the baseline over the same items, or the run over all of its items."""
    gap: float
    """How much better it is than that; below zero: worse."""


def segments_of(items: Sequence[ItemView], metrics: Sequence[Metric], lower_is_better: frozenset[str]) -> list[Segment]:
    """Return the segments of one run by itself, the worst first."""
    known = {metric.name: metric for metric in metrics if metric.mean is not None}
    if failed := sum(bool(item.error) for item in items):
        known[FAILED] = Metric(name=FAILED, kind=Kind.SHARE, count=len(items), mean=failed / len(items))
    values = _values(items, known)
    distinct = Counter((name, key) for name, key, _ in values)
    found = []
    for (name, key, value), numbers in values.items():
        if not 2 <= distinct[name, key] <= _MOST_VALUES:
            continue
        whole, mean = known[name].mean or 0.0, math.fsum(numbers) / len(numbers)
        gap = whole - mean if name in lower_is_better or name == FAILED else mean - whole
        found.append(
            Segment(
                metric=name, kind=known[name].kind, key=key, value=value,
                count=len(numbers), mean=mean, against=whole, gap=gap,
            )
        )  # fmt: skip
    return sorted(found, key=_worst_first)


def compared_segments(comparison: CompareExperimentsResponse, run_id: str, kinds: dict[str, Kind]) -> list[Segment]:
    """Return the segments of a run beside its baseline, the greatest loss first."""
    lower = {its.metric for its in comparison.metrics if its.lower_is_better}
    found = []
    for its in comparison.segments:
        if its.run_id != run_id or not its.HasField("run_mean"):
            continue
        against = its.baseline_mean if its.HasField("baseline_mean") else None
        difference = its.run_mean - against if against is not None else 0.0
        found.append(
            Segment(
                metric=its.metric, kind=kinds.get(its.metric, Kind.NUMBER), key=its.key, value=its.value,
                count=its.pairs, mean=its.run_mean, against=against,
                gap=-difference if its.metric in lower else difference,
            )
        )  # fmt: skip
    return sorted(found, key=_worst_first)


def _values(items: Sequence[ItemView], known: Mapping[str, Metric]) -> dict[tuple[str, str, str], list[float]]:
    """The numbers by metric, key and value."""
    values: dict[tuple[str, str, str], list[float]] = {}
    for item in items:
        numbers = [(its.name, its.number) for its in item.judgements if its.name in known]
        if FAILED in known:
            numbers.append((FAILED, float(bool(item.error))))
        for key, value in _labels(item.metadata_json):
            for name, number in numbers:
                if number is not None and math.isfinite(number):
                    values.setdefault((name, key, value), []).append(number)
    return values


def _labels(metadata_json: str) -> list[tuple[str, str]]:
    """The keys of a metadata object whose values are short and single."""
    try:
        metadata = json.loads(metadata_json) if metadata_json else {}
    except (ValueError, RecursionError):
        return []
    if not isinstance(metadata, dict):
        return []
    return [
        (key, value if isinstance(value, str) else json.dumps(value))
        for key, value in metadata.items()
        if isinstance(value, str | int | float | bool) and len(str(value)) <= 100
    ]


def _worst_first(segment: Segment) -> tuple[float, str, str, str]:
    # A share and a price can't be held against each other: each gap is a part of what it is held against.
    size = max(abs(segment.against or 0.0), abs(segment.mean), 1e-12) if segment.kind is not Kind.SHARE else 1.0
    return segment.gap / size, segment.metric, segment.key, segment.value
