"""Runs compared with a baseline, metric by metric: the whole of the statistics as one pure function."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lodestream_proto.v1.experiments_pb2 import (
    METRIC_VERDICT_BETTER,
    METRIC_VERDICT_CANNOT_SAY,
    METRIC_VERDICT_NOT_SHOWN,
    METRIC_VERDICT_WORSE,
    MetricComparison,
    MetricVerdict,
    SegmentComparison,
)
from statsmodels.stats.multitest import multipletests

from services.read.query.experiments.statistics.categorical import compare_categories
from services.read.query.experiments.statistics.continuous import compare_numbers
from services.read.query.experiments.statistics.finding import Finding, Rules
from services.read.query.experiments.statistics.pairing import Pairs, ValueKind, Values, mean, noise_floor, pair
from services.read.query.experiments.statistics.proportions import compare_proportions
from services.read.query.experiments.statistics.wording import Unit, silent_summary, summary_of

MAX_VALUES_BY_DEFAULT, MAX_VALUES_REQUESTED = 20, 1_000
"""The most values that a key may have to make segments by it: by default, and where the request names it."""
Metadata = Mapping[str, Mapping[str, str]]
"""The metadata of items: by item, by key."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric to compare, and what its numbers mean."""

    name: str
    lower_is_better: bool = False
    unit: Unit = Unit.PLAIN
    is_a_total: bool = False
    """The mean counts, even where few items make it: a bill is the sum of its items."""


@dataclass(frozen=True, slots=True)
class RunMetrics:
    """The values of a run, by metric."""

    run_id: str
    values: Mapping[str, Values]


@dataclass(frozen=True, slots=True)
class ComparedMetric:
    """A metric of a run compared with the baseline's."""

    message: MetricComparison
    kind: ValueKind
    pairs: Pairs


@dataclass(frozen=True, slots=True)
class _Comparison:
    """One metric of one run."""

    run_id: str
    metric: Metric
    kind: ValueKind
    pairs: Pairs
    why: str = ""
    """The reason why nothing can be said, where there is one."""


def compare(
    baseline: RunMetrics, runs: Sequence[RunMetrics], metrics: Sequence[Metric], rules: Rules
) -> list[ComparedMetric]:
    """Compare runs with a baseline, by run, then by metric.

    The same input and seed give the same answer, whatever the order of items.
    """
    rules = replace(rules, tests=max(1, len(runs) * len(metrics)))
    comparisons = [_comparison(baseline, run, metric) for run in runs for metric in metrics]
    tests = [_tested(comparison, rules) for comparison in comparisons]
    floors = {name: noise_floor(values) for name, values in baseline.values.items()}
    return [
        ComparedMetric(_message(comparison, finding, p_adjusted, floors, rules), comparison.kind, comparison.pairs)
        for comparison, finding, p_adjusted in zip(comparisons, tests, adjusted(tests), strict=True)
    ]


def changes(compared: ComparedMetric) -> Iterator[tuple[str, float]]:
    """Yield the items of pairs of numbers, each with how much better it became (below 0: worse)."""
    sign = -1 if compared.message.lower_is_better else 1
    for item, difference in zip(compared.pairs.items, compared.pairs.differences(), strict=True):
        yield item, sign * difference


def _comparison(baseline: RunMetrics, run: RunMetrics, metric: Metric) -> _Comparison:
    baseline_values, run_values = baseline.values.get(metric.name), run.values.get(metric.name)
    if baseline_values is None or run_values is None:
        kind = (baseline_values or run_values or Values(ValueKind.NUMBER)).kind
        pairs = pair(baseline_values, run_values) if _comparable(kind) else Pairs(())
        return _Comparison(run.run_id, metric, kind, pairs, _absent(baseline_values, run_values))
    if baseline_values.kind is not run_values.kind:
        why = f"its values are {baseline_values.kind.value} in the baseline and {run_values.kind.value} in the run"
        return _Comparison(run.run_id, metric, ValueKind.MIXED, Pairs(()), why)
    if not _comparable(baseline_values.kind):
        return _Comparison(
            run.run_id, metric, baseline_values.kind, Pairs(()), f"its values are {baseline_values.kind.value}"
        )
    return _Comparison(run.run_id, metric, baseline_values.kind, pair(baseline_values, run_values))


def _comparable(kind: ValueKind) -> bool:
    return kind in {ValueKind.NUMBER, ValueKind.BOOLEAN, ValueKind.CATEGORY}


def _absent(baseline_values: Values | None, run_values: Values | None) -> str:
    if baseline_values is None and run_values is None:
        return "neither run has a value of it"
    return "the baseline has no value of it" if baseline_values is None else "the run has no value of it"


def _tested(comparison: _Comparison, rules: Rules) -> Finding:
    pairs = comparison.pairs
    if comparison.why or not pairs:
        return Finding("", None)
    if comparison.kind is ValueKind.CATEGORY:
        finding = compare_categories(pairs.baseline_labels, pairs.run_labels, rules)
    elif comparison.kind is ValueKind.BOOLEAN and {*pairs.baseline, *pairs.run} <= {0.0, 1.0}:
        became = [after - before for before, after in zip(pairs.baseline, pairs.run, strict=True)]
        finding = compare_proportions(became.count(1), became.count(-1), len(pairs), rules)
    else:
        by_rank = comparison.kind is ValueKind.NUMBER and not comparison.metric.is_a_total
        finding = compare_numbers(pairs.differences(), rules, by_rank=by_rank)
    return finding if len(pairs) >= rules.least_pairs else replace(finding, test="", p_value=None, remark="")


def _message(
    comparison: _Comparison,
    finding: Finding,
    p_adjusted: float | None,
    floors: Mapping[str, float | None],
    rules: Rules,
) -> MetricComparison:
    metric, pairs = comparison.metric, comparison.pairs
    message = _measured(comparison, finding, p_adjusted, floors.get(metric.name))
    if finding.p_value is None:
        message.verdict = METRIC_VERDICT_CANNOT_SAY
        message.summary = silent_summary(
            metric.name, comparison.why or finding.remark or _too_few(rules), pairs=len(pairs)
        )
        return message
    means_differ_by = message.run_mean - message.baseline_mean
    message.verdict = verdict_of(finding, p_adjusted, means_differ_by, rules, lower_is_better=metric.lower_is_better)
    unit = Unit.SHARE if comparison.kind is ValueKind.BOOLEAN else metric.unit
    message.summary = summary_of(message, finding, unit, rules)
    return message


def _measured(
    comparison: _Comparison, finding: Finding, p_adjusted: float | None, floor: float | None
) -> MetricComparison:
    metric, pairs = comparison.metric, comparison.pairs
    message = MetricComparison(
        run_id=comparison.run_id,
        metric=metric.name,
        lower_is_better=metric.lower_is_better,
        pairs=len(pairs),
        missing=len(pairs.missing),
        difference=_finite(finding.difference),
        test=finding.test,
        p_value=_finite(finding.p_value),
        p_adjusted=_finite(p_adjusted),
        effect=finding.effect if finding.effect_size is not None else "",
        effect_size=_finite(finding.effect_size),
        smallest_detectable_difference=_finite(finding.smallest),
        items_needed=finding.needed,
        noise_floor=_finite(floor),
    )
    if finding.interval and all(map(math.isfinite, finding.interval)):
        message.interval_low, message.interval_high = finding.interval
    if pairs.baseline:
        message.baseline_mean, message.run_mean = mean(pairs.baseline), mean(pairs.run)
    if comparison.kind is ValueKind.CATEGORY:
        message.unchanged = sum(map(str.__eq__, pairs.baseline_labels, pairs.run_labels))
        return message
    moved = [difference * (-1 if metric.lower_is_better else 1) for difference in pairs.differences()]
    message.improved, message.regressed = sum(each > 0 for each in moved), sum(each < 0 for each in moved)
    message.unchanged = len(pairs) - message.improved - message.regressed
    return message


def _too_few(rules: Rules) -> str:
    return f"fewer than {rules.least_pairs} that both runs have a value for can show no difference"


def _finite(figure: float | None) -> float | None:
    """Return a figure if it is finite: no other is ever answered."""
    return figure if figure is not None and math.isfinite(figure) else None


def adjusted(tests: Sequence[Finding]) -> list[float | None]:
    """Return each test's p-value after the correction of Holm over all of them.

    S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6, 1979,
    65-70.

    Tests in which no item differs are not counted: their p-value is 1 whatever happens, so they can't be wrong
    (R. E. Tarone, "A Modified Bonferroni Method for Discrete Data", Biometrics 46, 1990, 515-522), and a metric that is
    the same in all runs costs the others nothing.
    """
    counted = [n for n, finding in enumerate(tests) if finding.p_value is not None and finding.informative]
    answer = [finding.p_value for finding in tests]
    if counted:
        _, corrected, *_ = multipletests([answer[n] for n in counted], method="holm")
        for n, p_value in zip(counted, corrected, strict=True):
            answer[n] = float(p_value)
    return answer


def verdict_of(
    finding: Finding, p_adjusted: float | None, means_differ_by: float, rules: Rules, *, lower_is_better: bool
) -> MetricVerdict.ValueType:
    """Return better or worse only where the corrected test and the interval both say so, and no mean the contrary.

    Categories that differ are neither: they have no order.
    """
    if p_adjusted is None:
        return METRIC_VERDICT_CANNOT_SAY
    if p_adjusted >= rules.alpha:
        return METRIC_VERDICT_NOT_SHOWN
    if finding.difference is None:
        return METRIC_VERDICT_CANNOT_SAY
    if contradicted(finding, means_differ_by):
        return METRIC_VERDICT_NOT_SHOWN
    return METRIC_VERDICT_BETTER if (finding.difference < 0) == lower_is_better else METRIC_VERDICT_WORSE


def contradicted(finding: Finding, means_differ_by: float) -> bool:
    """Return whether the interval holds 0, or the typical item goes one way and the mean the other."""
    if not finding.difference or (finding.interval and finding.interval[0] <= 0 <= finding.interval[1]):
        return True
    return finding.typical and finding.difference * means_differ_by < 0


def segment_keys(metadata: Metadata, requested: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the keys to make segments by, and the reasons why requested ones are left out."""
    values: dict[str, set[str]] = defaultdict(set)
    for of_item in metadata.values():
        for key, value in of_item.items():
            values[key].add(value)
    if not requested:
        return sorted(key for key, distinct in values.items() if len(distinct) <= MAX_VALUES_BY_DEFAULT), []
    unknown = [
        f"no item has {key!r} in its metadata, so there are no segments by it" for key in requested if key not in values
    ]
    many = [
        f"the metadata's {key!r} has {len(values[key]):,} values; segments are of at most {MAX_VALUES_REQUESTED:,}"
        for key in requested
        if len(values[key]) > MAX_VALUES_REQUESTED
    ]
    return [key for key in dict.fromkeys(requested) if 0 < len(values[key]) <= MAX_VALUES_REQUESTED], unknown + many


def segments(
    compared: Iterable[ComparedMetric], metadata: Metadata, keys: Sequence[str]
) -> Iterator[SegmentComparison]:
    """Yield segments by comparison, key and value. Means only: a test of each would show differences by chance."""
    for each in compared:
        if not each.pairs.baseline:
            continue
        for key in keys:
            positions_by_value: dict[str, list[int]] = defaultdict(list)
            for position, item in enumerate(each.pairs.items):
                if (value := metadata.get(item, {}).get(key)) is not None:
                    positions_by_value[value].append(position)
            for value, positions in sorted(positions_by_value.items()):
                yield SegmentComparison(
                    run_id=each.message.run_id,
                    metric=each.message.metric,
                    key=key,
                    value=value,
                    pairs=len(positions),
                    baseline_mean=mean(each.pairs.baseline[position] for position in positions),
                    run_mean=mean(each.pairs.run[position] for position in positions),
                )
