"""The items that got worse, and those that got better, with both sides of each."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lodestream_proto.v1 import experiments_pb2 as pb

from lodestream_evals.reports._metrics import COST, LATENCY
from lodestream_evals.reports._units import Kind
from lodestream_evals.reports._views import ItemView, pick

_NOISE = frozenset({LATENCY, COST})
"""They go their own ways on every item."""


@dataclass(frozen=True, slots=True)
class MetricChange:
    """A metric of one item in both runs."""

    metric: str
    change: pb.ItemChange.ValueType
    before: float | None
    after: float | None
    before_category: str
    after_category: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemChanges:
    """An item whose values are not the same in both runs."""

    run_id: str
    item_id: str
    metrics: tuple[MetricChange, ...]
    """Evaluations first; those that got worse first."""
    input: str
    expected: str
    before: ItemView | None
    """Of the baseline: the repetition that shows the case best."""
    after: ItemView | None
    before_trace_id: str
    after_trace_id: str
    before_error: str
    after_error: str

    @property
    def regressed(self) -> bool:
        """In what evaluators say, or because it ended with an error."""
        return self._has(pb.ITEM_CHANGE_REGRESSED)

    @property
    def improved(self) -> bool:
        """The same."""
        return self._has(pb.ITEM_CHANGE_IMPROVED)

    def _has(self, change: pb.ItemChange.ValueType) -> bool:
        return any(its.change == change and its.metric not in _NOISE for its in self.metrics)


def changes_of(
    comparison: pb.CompareExperimentsResponse, run_id: str, items: Sequence[ItemView], kinds: Mapping[str, Kind]
) -> list[ItemChanges]:
    """By item, those that lost most first: checks before numbers."""
    before = _by_item(items, comparison.baseline.request.run_id)
    after = _by_item(items, run_id)
    by_item: dict[str, list[pb.ItemComparison]] = {}
    for its in comparison.items:
        if its.run_id == run_id:
            by_item.setdefault(its.item_id, []).append(its)
    lower = {its.metric for its in comparison.metrics if its.lower_is_better}
    changes = []
    for item_id, comparisons in by_item.items():
        metrics = sorted(map(_metric, comparisons), key=lambda metric: _importance(metric, kinds))
        changes.append(_change(comparisons[0], metrics, before.get(item_id, []), after.get(item_id, []), lower))
    return sorted(changes, key=lambda item: _greatest_loss_first(item, kinds))


def _change(
    first: pb.ItemComparison,
    metrics: Sequence[MetricChange],
    before: Sequence[ItemView],
    after: Sequence[ItemView],
    lower_is_better: Collection[str],
) -> ItemChanges:
    leading = metrics[0]
    # Where a repetition went wrong is what people want to see; of the baseline one where it went right.
    rising = (leading.change != pb.ITEM_CHANGE_REGRESSED) != (leading.metric in lower_is_better)
    old = pick(before, leading.metric, highest=not rising)
    new = pick(after, leading.metric, highest=rising)
    shown = new or old
    return ItemChanges(
        run_id=first.run_id,
        item_id=first.item_id,
        metrics=tuple(metrics),
        input=shown.input if shown and shown.input else first.input_preview,
        expected=shown.expected if shown else "",
        before=old,
        after=new,
        before_trace_id=old.trace_id if old else first.baseline_trace_id,
        after_trace_id=new.trace_id if new else first.run_trace_id,
        before_error=old.error if old else first.baseline_error,
        after_error=new.error if new else first.run_error,
    )


def _metric(its: pb.ItemComparison) -> MetricChange:
    return MetricChange(
        its.metric,
        its.change,
        its.baseline_value if its.HasField("baseline_value") else None,
        its.run_value if its.HasField("run_value") else None,
        its.baseline_category,
        its.run_category,
    )


def _by_item(items: Iterable[ItemView], run_id: str) -> dict[str, list[ItemView]]:
    found: dict[str, list[ItemView]] = {}
    for item in items:
        if item.run_id == run_id:
            found.setdefault(item.item_id, []).append(item)
    return found


def _importance(metric: MetricChange, kinds: Mapping[str, Kind]) -> tuple[bool, int, bool, str]:
    order = {pb.ITEM_CHANGE_REGRESSED: 0, pb.ITEM_CHANGE_IMPROVED: 1}
    is_check = kinds.get(metric.metric) is Kind.SHARE
    return metric.metric in _NOISE, order.get(metric.change, 2), not is_check, metric.metric


def _greatest_loss_first(item: ItemChanges, kinds: Mapping[str, Kind]) -> tuple[int, int, float, str]:
    worse = [its for its in item.metrics if its.change == pb.ITEM_CHANGE_REGRESSED and its.metric not in _NOISE]
    checks = sum(kinds.get(its.metric) is Kind.SHARE for its in worse)
    return -checks, -len(worse), -max(map(_size, worse), default=0.0), item.item_id


def _size(its: MetricChange) -> float:
    """Of a change, as a part of the greater of both values: a price and a length can't be held against each other."""
    if its.before is None or its.after is None:
        return 1.0
    return abs(its.after - its.before) / (max(abs(its.before), abs(its.after)) or 1.0)
