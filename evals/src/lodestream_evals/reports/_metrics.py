"""What a run's evaluations come to, by themselves and item by item."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lodestream_proto.v1.experiments_pb2 import EvaluationSummary, ExperimentRun

from lodestream_evals.reports._units import Kind
from lodestream_evals.reports._views import ItemView, Judgement, kind_of

LATENCY, COST, ERRORS = "latency", "cost", "errors"
MEASURES = frozenset({LATENCY, COST, ERRORS})
"""What a comparison has of every run, whoever judges it; for all of them less is better."""
_Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One evaluation over all items of a run; latency and cost too, as means of an item."""

    name: str
    kind: Kind
    count: int
    errors: int = 0
    mean: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    """Of categories."""
    interval: tuple[float, float] | None = None
    """Of a share: where it lies at 95 % confidence, by Wilson."""


def metrics_of(run: ExperimentRun, items: Sequence[ItemView]) -> list[Metric]:
    """Of the run's own summary; of its items where it has none."""
    repetitions = max(run.request.repetitions, 1)
    summaries = list(run.evaluations) or _summed(items)
    return [_metric(summary, repetitions) for summary in summaries]


def costs_of(run: ExperimentRun, items: Sequence[ItemView]) -> list[Metric]:
    """Latency and cost of an item, as far as they are known."""
    taken = [item.seconds for item in items if item.seconds is not None]
    spent = [item.usd for item in items if item.usd is not None]
    found = []
    if taken:
        found.append(Metric(name=LATENCY, kind=Kind.SECONDS, count=len(taken), mean=math.fsum(taken) / len(taken)))
    if spent:
        found.append(Metric(name=COST, kind=Kind.USD, count=len(spent), mean=math.fsum(spent) / len(spent)))
    elif run.usage.HasField("cost_picodollars") and run.items_finished:
        mean = run.usage.cost_picodollars / 1e12 / run.items_finished
        found.append(Metric(name=COST, kind=Kind.USD, count=run.items_finished, mean=mean))
    return found


def wilson(share: float, number: int) -> tuple[float, float]:
    """Where a share of so many lies at 95 % confidence."""
    spread = 1 + _Z**2 / number
    centre = (share + _Z**2 / (2 * number)) / spread
    half = _Z / spread * math.sqrt(share * (1 - share) / number + _Z**2 / (4 * number**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _metric(summary: EvaluationSummary, repetitions: int) -> Metric:
    mean = summary.mean if summary.HasField("mean") else None
    kind = kind_of(
        summary.name,
        boolean=mean is not None and bool(summary.counts),
        categorical=mean is None and bool(summary.counts),
    )
    if mean is None and not summary.counts:
        kind = Kind.TEXT
    # Repetitions of an item are no items of their own: the interval counts each item once.
    known = -(-summary.count // repetitions)
    interval = wilson(min(max(mean, 0.0), 1.0), known) if kind is Kind.SHARE and mean is not None and known else None
    return Metric(
        name=summary.name, kind=kind, count=summary.count, errors=summary.errors, mean=mean,
        counts={} if kind is Kind.SHARE else dict(summary.counts), interval=interval,
    )  # fmt: skip


def _summed(items: Sequence[ItemView]) -> list[EvaluationSummary]:
    by_name: dict[str, list[Judgement]] = {}
    for item in items:
        for judgement in item.judgements:
            by_name.setdefault(judgement.name, []).append(judgement)
    return [_summary(name, by_name[name]) for name in sorted(by_name)]


def _summary(name: str, judgements: Sequence[Judgement]) -> EvaluationSummary:
    good = [its for its in judgements if not its.error]
    summary = EvaluationSummary(name=name, count=len(good), errors=len(judgements) - len(good))
    numbers = [its.number for its in good if its.number is not None]
    if numbers:
        summary.mean = math.fsum(numbers) / len(numbers)
    for its in good:
        if its.kind in {Kind.SHARE, Kind.CATEGORY}:
            summary.counts[its.words] += 1
    return summary


# --- Values of items --------------------------------------------------------------------------------------------------


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
        category = item.judgement(metric)
        if category is not None and not category.error:
            counts[category.words] = counts.get(category.words, 0) + 1
    return counts


def _value(item: ItemView, metric: str) -> float | None:
    evaluated = item.judgement(metric)
    if evaluated is not None:
        return evaluated.number
    return {LATENCY: item.seconds, COST: item.usd}.get(metric)
