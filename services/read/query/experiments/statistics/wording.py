"""Figures and comparisons as a reader takes them in: in sentences, with units."""

import math
from enum import Enum

from lodestream_proto.v1.experiments_pb2 import (
    METRIC_VERDICT_BETTER,
    METRIC_VERDICT_CANNOT_SAY,
    METRIC_VERDICT_WORSE,
    MetricComparison,
)

from services.read.query.experiments.statistics.finding import Finding, Rules

_SMALL, _LARGE = 1e-6, 1e9
"""Within these all digits are written out."""


class Unit(Enum):
    """What the numbers of a metric count."""

    PLAIN = ""
    SHARE = " %"
    SECONDS = " s"
    DOLLARS = " USD"


def figure(value: float, unit: Unit) -> str:
    """A value with its unit."""
    return f"{_number(value, unit)}{unit.value}"


def change(value: float, unit: Unit) -> str:
    """A difference with its sign; of shares in percentage points."""
    text = _number(value, unit)
    return text if text.startswith("-") else f"+{text}"


def probability(p_value: float) -> str:
    """As it is written in a sentence."""
    if p_value < 0.001:
        return "p < 0.001"
    return f"p = {rounded_probability(p_value)}"


def rounded_probability(p_value: float) -> str:
    """To the digits that tell; near 0.05 one more, so that it is not rounded across."""
    if p_value < 0.001:
        return "< 0.001"
    places = 2 if p_value >= 0.1 else 4 if 0.0495 <= p_value < 0.0505 else 3
    return f"{p_value:.{places}f}"


def count(items: int, noun: str = "item") -> str:
    """For example "1 item", "1,650 items"."""
    return f"{items:,} {noun}{'' if items == 1 else 's'}"


def percentage(confidence: float) -> str:
    """For example "95 %"."""
    return f"{100 * confidence:.6g} %"


def _number(value: float, unit: Unit) -> str:
    if unit is Unit.SHARE:
        return _unsigned_zero(f"{100 * value:.1f}")
    if value and not _SMALL <= abs(value) < _LARGE:
        return f"{value:.3g}"
    # Three digits that tell, and at least one after the point.
    places = max(1, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return _unsigned_zero(f"{value:,.{places}f}")


def _unsigned_zero(text: str) -> str:
    return text.removeprefix("-") if not text.strip("-0.") else text


def summary_of(said: MetricComparison, finding: Finding, unit: Unit, rules: Rules) -> str:
    """What was measured, what follows, and what a reader must know with it."""
    verdict = {METRIC_VERDICT_BETTER: "better", METRIC_VERDICT_WORSE: "worse"}.get(said.verdict)
    measured = f"{said.metric} {_measured(said, finding, unit, rules)}"
    if verdict:
        return _joined(f"{measured}: {verdict}.", _changes(said), finding.remark)
    if said.verdict == METRIC_VERDICT_CANNOT_SAY:
        return (
            f"{measured}: the categories are not as frequent as before; they have no order, so neither run is better."
        )
    return _joined(
        f"{measured}: {_not_shown(said, finding, rules)}.", _changes(said), finding.remark, _reach(said, unit)
    )


def silent_summary(metric: str, why: str, *, pairs: int) -> str:
    """When nothing can be said."""
    return f"{metric}: nothing can be said{f' on {count(pairs)}' if pairs else ''}, because {why}."


def _measured(said: MetricComparison, finding: Finding, unit: Unit, rules: Rules) -> str:
    result = _tested(said, finding)
    if not said.HasField("difference"):
        return f"on {count(said.pairs)}, {count(said.pairs - said.unchanged)} with another category, {result}"
    means = f"{figure(said.baseline_mean, unit)} → {figure(said.run_mean, unit)}"
    difference = change(said.difference, unit) + (" for the typical item" if finding.typical else "")
    if said.HasField("interval_low"):
        low, high = change(said.interval_low, unit), change(said.interval_high, unit)
        difference += f", {percentage(rules.confidence)} interval {low} to {high}"
    return f"{means} ({difference}) on {count(said.pairs)}, {result}"


def _tested(said: MetricComparison, finding: Finding) -> str:
    corrected = f"; Holm {rounded_probability(said.p_adjusted)}" if said.p_adjusted != said.p_value else ""
    return f"{probability(said.p_value)} ({finding.test}{corrected})"


def _not_shown(said: MetricComparison, finding: Finding, rules: Rules) -> str:
    if not finding.informative:
        return "no item differs"
    if said.p_adjusted < rules.alpha:
        if finding.typical and finding.difference and finding.difference * (said.run_mean - said.baseline_mean) < 0:
            return "most items go one way and the mean the other, so no difference is shown"
        return "the interval holds 0, so no difference is shown"
    if said.p_value < rules.alpha:
        return "no difference is shown, for one of as many tests comes to this by chance"
    return "no difference is shown"


def _changes(said: MetricComparison) -> str:
    """How many items went which way, where values have one, and how many have none in one of the runs."""
    one_run = f"{said.missing:,} in one run only" if said.missing else ""
    if said.HasField("difference") and said.improved + said.regressed:
        moved = f"{count(said.improved)} improved, {said.regressed:,} regressed"
        return f"{moved}, {one_run}." if one_run else f"{moved}."
    return f"{count(said.missing)} in one run only." if one_run else ""


def _reach(said: MetricComparison, unit: Unit) -> str:
    """What could have been shown, and what it would take."""
    if not said.HasField("smallest_detectable_difference"):
        return ""
    reach = f"A difference of {figure(said.smallest_detectable_difference, unit)} would be shown 4 times in 5"
    if unit is Unit.SHARE:
        reach = reach.replace(" %", " points")
    if not said.HasField("items_needed") or said.items_needed <= said.pairs:
        return f"{reach}."
    return f"{reach}; the one observed takes {count(said.items_needed)}."


def _joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences))
