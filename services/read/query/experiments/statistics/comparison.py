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
from services.read.query.experiments.statistics.pairing import Kind, Pairs, Values, mean, noise_floor, pair
from services.read.query.experiments.statistics.proportions import compare_proportions
from services.read.query.experiments.statistics.wording import Unit, silent_summary, summary_of


@dataclass(frozen=True, slots=True)
class Metric:
    """What is compared, and how it is meant."""

    name: str
    lower_is_better: bool = False
    unit: Unit = Unit.PLAIN
    is_a_total: bool = False
    """It is the mean that counts, whoever makes it: a bill is the sum of its items."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a run has, by metric."""

    run_id: str
    values: Mapping[str, Values]


@dataclass(frozen=True, slots=True)
class Compared:
    """A metric of a run beside the baseline's."""

    said: MetricComparison
    kind: Kind
    pairs: Pairs


@dataclass(frozen=True, slots=True)
class _Question:
    """One metric of one run."""

    run_id: str
    metric: Metric
    kind: Kind
    pairs: Pairs
    why: str = ""
    """There is nothing to be said, if so."""


def compare(baseline: Run, runs: Sequence[Run], metrics: Sequence[Metric], rules: Rules) -> list[Compared]:
    """By run, then by metric. The same input and seed give the same answer, whatever the order of items."""
    rules = replace(rules, tests=max(1, len(runs) * len(metrics)))
    questions = [_question(baseline, run, metric) for run in runs for metric in metrics]
    tests = [_tested(question, rules) for question in questions]
    floors = {name: noise_floor(values) for name, values in baseline.values.items()}
    return [
        Compared(_said(question, finding, p_adjusted, floors, rules), question.kind, question.pairs)
        for question, finding, p_adjusted in zip(questions, tests, adjusted(tests), strict=True)
    ]


def changes(compared: Compared) -> Iterator[tuple[str, float]]:
    """Of each pair of numbers, by item: how much better it became; below 0: worse."""
    sign = -1 if compared.said.lower_is_better else 1
    for item, difference in zip(compared.pairs.items, compared.pairs.differences(), strict=True):
        yield item, sign * difference


def _question(baseline: Run, run: Run, metric: Metric) -> _Question:
    theirs, ours = baseline.values.get(metric.name), run.values.get(metric.name)
    if theirs is None or ours is None:
        kind = (theirs or ours or Values(Kind.NUMBER)).kind
        pairs = pair(theirs, ours) if _comparable(kind) else Pairs(())
        return _Question(run.run_id, metric, kind, pairs, _absent(theirs, ours))
    if theirs.kind is not ours.kind:
        why = f"its values are {theirs.kind.value} in the baseline and {ours.kind.value} in the run"
        return _Question(run.run_id, metric, Kind.MIXED, Pairs(()), why)
    if not _comparable(theirs.kind):
        return _Question(run.run_id, metric, theirs.kind, Pairs(()), f"its values are {theirs.kind.value}")
    return _Question(run.run_id, metric, theirs.kind, pair(theirs, ours))


def _comparable(kind: Kind) -> bool:
    return kind in {Kind.NUMBER, Kind.BOOLEAN, Kind.CATEGORY}


def _absent(theirs: Values | None, ours: Values | None) -> str:
    if theirs is None and ours is None:
        return "neither run has a value of it"
    return "the baseline has no value of it" if theirs is None else "the run has no value of it"


def _tested(question: _Question, rules: Rules) -> Finding:
    pairs = question.pairs
    if question.why or not pairs:
        return Finding("", None)
    if question.kind is Kind.CATEGORY:
        finding = compare_categories(pairs.baseline_labels, pairs.run_labels, rules)
    elif question.kind is Kind.BOOLEAN and {*pairs.baseline, *pairs.run} <= {0.0, 1.0}:
        became = [ours - theirs for theirs, ours in zip(pairs.baseline, pairs.run, strict=True)]
        finding = compare_proportions(became.count(1), became.count(-1), len(pairs), rules)
    else:
        by_rank = question.kind is Kind.NUMBER and not question.metric.is_a_total
        finding = compare_numbers(pairs.differences(), rules, by_rank=by_rank)
    return finding if len(pairs) >= rules.least_pairs else replace(finding, test="", p_value=None, remark="")


def _said(
    question: _Question,
    finding: Finding,
    p_adjusted: float | None,
    floors: Mapping[str, float | None],
    rules: Rules,
) -> MetricComparison:
    metric, pairs = question.metric, question.pairs
    said = _measured(question, finding, p_adjusted, floors.get(metric.name))
    if finding.p_value is None:
        said.verdict = METRIC_VERDICT_CANNOT_SAY
        said.summary = silent_summary(metric.name, question.why or finding.remark or _too_few(rules), pairs=len(pairs))
        return said
    apart = said.run_mean - said.baseline_mean
    said.verdict = verdict_of(finding, p_adjusted, apart, rules, lower_is_better=metric.lower_is_better)
    unit = Unit.SHARE if question.kind is Kind.BOOLEAN else metric.unit
    said.summary = summary_of(said, finding, unit, rules)
    return said


def _measured(question: _Question, finding: Finding, p_adjusted: float | None, floor: float | None) -> MetricComparison:
    metric, pairs = question.metric, question.pairs
    said = MetricComparison(
        run_id=question.run_id,
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
        said.interval_low, said.interval_high = finding.interval
    if pairs.baseline:
        said.baseline_mean, said.run_mean = mean(pairs.baseline), mean(pairs.run)
    if question.kind is Kind.CATEGORY:
        said.unchanged = sum(map(str.__eq__, pairs.baseline_labels, pairs.run_labels))
        return said
    moved = [difference * (-1 if metric.lower_is_better else 1) for difference in pairs.differences()]
    said.improved, said.regressed = sum(each > 0 for each in moved), sum(each < 0 for each in moved)
    said.unchanged = len(pairs) - said.improved - said.regressed
    return said


def _too_few(rules: Rules) -> str:
    return f"fewer than {rules.least_pairs} that both runs have a value for can show no difference"


def _finite(figure: float | None) -> float | None:
    """The figure if it is a number: nothing else is ever answered."""
    return figure if figure is not None and math.isfinite(figure) else None


def adjusted(tests: Sequence[Finding]) -> list[float | None]:
    """Each test's p-value after Holm (1979) over all of them.

    Tests in which no item differs are not counted: their p is 1 whatever happens, so they take no chance of being wrong
    (Tarone 1990), and a metric that is the same in all runs costs the others nothing.
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
    """Better or worse only when the corrected test and the interval both say so, and no mean the contrary.

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
    """The interval holds 0, or the typical item goes one way and the mean the other."""
    if not finding.difference or (finding.interval and finding.interval[0] <= 0 <= finding.interval[1]):
        return True
    return finding.typical and finding.difference * means_differ_by < 0


MOST_BY_ITSELF, MOST_ASKED = 20, 1_000
"""Values of a key, to look at the items by it unasked, and when asked."""
Metadata = Mapping[str, Mapping[str, str]]
"""By item, by key."""


def keys_to_look_by(metadata: Metadata, asked: Sequence[str]) -> tuple[list[str], list[str]]:
    """The keys, and for those that were asked for in vain: why."""
    values: dict[str, set[str]] = defaultdict(set)
    for its in metadata.values():
        for key, value in its.items():
            values[key].add(value)
    if not asked:
        return sorted(key for key, known in values.items() if len(known) <= MOST_BY_ITSELF), []
    unknown = [
        f"no item has {key!r} in its metadata, so there are no segments by it" for key in asked if key not in values
    ]
    many = [
        f"the metadata's {key!r} has {len(values[key]):,} values; segments are of at most {MOST_ASKED:,}"
        for key in asked
        if len(values[key]) > MOST_ASKED
    ]
    return [key for key in dict.fromkeys(asked) if 0 < len(values[key]) <= MOST_ASKED], unknown + many


def segments(compared: Iterable[Compared], metadata: Metadata, keys: Sequence[str]) -> Iterator[SegmentComparison]:
    """By comparison, key and value. Means only: a test of each would show differences by chance."""
    for each in compared:
        if not each.pairs.baseline:
            continue
        for key in keys:
            places: dict[str, list[int]] = defaultdict(list)
            for place, item in enumerate(each.pairs.items):
                if (value := metadata.get(item, {}).get(key)) is not None:
                    places[value].append(place)
            for value, its in sorted(places.items()):
                yield SegmentComparison(
                    run_id=each.said.run_id,
                    metric=each.said.metric,
                    key=key,
                    value=value,
                    pairs=len(its),
                    baseline_mean=mean(each.pairs.baseline[place] for place in its),
                    run_mean=mean(each.pairs.run[place] for place in its),
                )
