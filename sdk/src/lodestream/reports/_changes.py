"""The items that got worse, and those that got better, with both sides of each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lodestream_proto.v1 import experiments_pb2 as pb

from lodestream.reports._views import ItemView, pick


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
        """In anything but latency and cost, which go their own ways on every item."""
        return self._has(pb.ITEM_CHANGE_REGRESSED)

    @property
    def improved(self) -> bool:
        """The same."""
        return self._has(pb.ITEM_CHANGE_IMPROVED)

    def _has(self, change: pb.ItemChange.ValueType) -> bool:
        return any(its.change == change and its.metric not in _MEASURES for its in self.metrics)


_MEASURES = ("latency", "cost")


def changes_of(comparison: pb.CompareExperimentsResponse, run_id: str, items: Sequence[ItemView]) -> list[ItemChanges]:
    """By item, those that lost most first."""
    before = _by_item(items, comparison.baseline.request.run_id)
    after = _by_item(items, run_id)
    told: dict[str, list[pb.ItemComparison]] = {}
    for its in comparison.items:
        if its.run_id == run_id:
            told.setdefault(its.item_id, []).append(its)
    lower = {its.metric for its in comparison.metrics if its.lower_is_better}
    changes = [_change(run_id, its, before.get(its[0].item_id, []), after.get(its[0].item_id, []), lower)
               for its in told.values()]  # fmt: skip
    return sorted(changes, key=_greatest_loss_first)


def _change(
    run_id: str,
    told: Sequence[pb.ItemComparison],
    before: Sequence[ItemView],
    after: Sequence[ItemView],
    lower_is_better: Iterable[str],
) -> ItemChanges:
    metrics = sorted((_metric(its) for its in told), key=_importance)
    first = told[0]
    leading = metrics[0]
    # Where a repetition went wrong is what people want to see; of the baseline one where it went right.
    rising = (leading.change != pb.ITEM_CHANGE_REGRESSED) != (leading.metric in set(lower_is_better))
    old = pick(before, leading.metric, highest=not rising)
    new = pick(after, leading.metric, highest=rising)
    shown = new or old
    return ItemChanges(
        run_id=run_id,
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


def _importance(metric: MetricChange) -> tuple[bool, int, str]:
    order = {pb.ITEM_CHANGE_REGRESSED: 0, pb.ITEM_CHANGE_IMPROVED: 1}
    return metric.metric in _MEASURES, order.get(metric.change, 2), metric.metric


def _greatest_loss_first(item: ItemChanges) -> tuple[int, float, str]:
    worse = [its for its in item.metrics if its.change == pb.ITEM_CHANGE_REGRESSED and its.metric not in _MEASURES]
    sizes = [abs(its.after - its.before) for its in worse if its.after is not None and its.before is not None]
    return -len(worse), -max(sizes, default=0.0), item.item_id
