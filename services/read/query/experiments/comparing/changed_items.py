"""The items whose value is not the same in both runs: of many, those that differ most."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from lodestream_proto.v1.experiments_pb2 import (
    ITEM_CHANGE_IMPROVED,
    ITEM_CHANGE_MISSING,
    ITEM_CHANGE_REGRESSED,
    ITEM_CHANGE_UNSPECIFIED,
    ItemChange,
    ItemComparison,
)

from services.read.query.experiments.comparing.reading import RunRead
from services.read.query.experiments.statistics.comparison import Compared, changes
from services.read.query.experiments.statistics.pairing import Kind, Values, mean, most_frequent

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
