"""The numbers of a metric, one an item: the mean over its repetitions."""

import math
from collections.abc import Iterable

from lodestream_evals.reports._metrics import COST, LATENCY
from lodestream_evals.reports._views import ItemView


def item_values(items: Iterable[ItemView], metric: str) -> dict[str, float]:
    """By item id; items without a number are left out."""
    found: dict[str, list[float]] = {}
    for item in items:
        value = _value(item, metric)
        if value is not None and math.isfinite(value):
            found.setdefault(item.item_id, []).append(value)
    return {item_id: math.fsum(values) / len(values) for item_id, values in found.items()}


def item_categories(items: Iterable[ItemView], metric: str) -> dict[str, int]:
    """How often each category was given."""
    counts: dict[str, int] = {}
    for item in items:
        said = item.judgement(metric)
        if said is not None and not said.error:
            counts[said.said] = counts.get(said.said, 0) + 1
    return counts


def _value(item: ItemView, metric: str) -> float | None:
    said = item.judgement(metric)
    if said is not None:
        return said.number
    return {LATENCY: item.seconds, COST: item.usd}.get(metric)
