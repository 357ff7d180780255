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
    """The unit of a metric's numbers."""

    PLAIN = ""
    SHARE = " %"
    SECONDS = " s"
    DOLLARS = " USD"


def figure(value: float, unit: Unit) -> str:
    """Return a value with its unit."""
    return f"{_number(value, unit)}{unit.value}"


def change(value: float, unit: Unit) -> str:
    """Return a difference with its sign; of shares in percentage points."""
    text = _number(value, unit)
    return text if text.startswith("-") else f"+{text}"


def probability(p_value: float) -> str:
    """Return a p-value as a sentence has it, for example "p = 0.03"."""
    if p_value < 0.001:
        return "p < 0.001"
    return f"p = {rounded_probability(p_value)}"


def rounded_probability(p_value: float) -> str:
    """Return a p-value rounded to the digits that matter; near 0.05 one more, so that it is not rounded across."""
    if p_value < 0.001:
        return "< 0.001"
    places = 2 if p_value >= 0.1 else 4 if 0.0495 <= p_value < 0.0505 else 3
    return f"{p_value:.{places}f}"


def count(items: int, noun: str = "item") -> str:
    """Return a count with its noun, for example "1 item", "1,650 items"."""
    return f"{items:,} {noun}{'' if items == 1 else 's'}"


def percentage(confidence: float) -> str:
    """Return a share in percent, for example "95 %"."""
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


def summary_of(message: MetricComparison, finding: Finding, unit: Unit, rules: Rules) -> str:
    """Return the sentences on a comparison: the measurement, the verdict, and what a reader must know with it."""
    verdict = {METRIC_VERDICT_BETTER: "better", METRIC_VERDICT_WORSE: "worse"}.get(message.verdict)
    measured = f"{message.metric} {_measured(message, finding, unit, rules)}"
    if verdict:
        return _joined(f"{measured}: {verdict}.", _changes(message), finding.remark)
    if message.verdict == METRIC_VERDICT_CANNOT_SAY:
        return (
            f"{measured}: the categories are not as frequent as before; they have no order, so neither run is better."
        )
    return _joined(
        f"{measured}: {_not_shown(message, finding, rules)}.", _changes(message), finding.remark, _reach(message, unit)
    )


def silent_summary(metric: str, why: str, *, pairs: int) -> str:
    """Return the sentence on a metric that can't be compared, with the reason."""
    return f"{metric}: nothing can be said{f' on {count(pairs)}' if pairs else ''}, because {why}."


def _measured(message: MetricComparison, finding: Finding, unit: Unit, rules: Rules) -> str:
    result = _tested(message, finding)
    if not message.HasField("difference"):
        return f"on {count(message.pairs)}, {count(message.pairs - message.unchanged)} with another category, {result}"
    means = f"{figure(message.baseline_mean, unit)} → {figure(message.run_mean, unit)}"
    difference = change(message.difference, unit) + (" for the typical item" if finding.typical else "")
    if message.HasField("interval_low"):
        low, high = change(message.interval_low, unit), change(message.interval_high, unit)
        difference += f", {percentage(rules.confidence)} interval {low} to {high}"
    return f"{means} ({difference}) on {count(message.pairs)}, {result}"


def _tested(message: MetricComparison, finding: Finding) -> str:
    corrected = f"; Holm {rounded_probability(message.p_adjusted)}" if message.p_adjusted != message.p_value else ""
    return f"{probability(message.p_value)} ({finding.test}{corrected})"


def _not_shown(message: MetricComparison, finding: Finding, rules: Rules) -> str:
    if not finding.informative:
        return "no item differs"
    if message.p_adjusted < rules.alpha:
        if (
            finding.typical
            and finding.difference
            and finding.difference * (message.run_mean - message.baseline_mean) < 0
        ):
            return "most items go one way and the mean the other, so no difference is shown"
        return "the interval holds 0, so no difference is shown"
    if message.p_value < rules.alpha:
        return "no difference is shown, for one of as many tests comes to this by chance"
    return "no difference is shown"


def _changes(message: MetricComparison) -> str:
    """Return how many items improved and regressed, and how many have a value in one of the runs only."""
    one_run = f"{message.missing:,} in one run only" if message.missing else ""
    if message.HasField("difference") and message.improved + message.regressed:
        moved = f"{count(message.improved)} improved, {message.regressed:,} regressed"
        return f"{moved}, {one_run}." if one_run else f"{moved}."
    return f"{count(message.missing)} in one run only." if one_run else ""


def _reach(message: MetricComparison, unit: Unit) -> str:
    """Return the sentence on the difference that would have been shown, and on the items that it would take."""
    if not message.HasField("smallest_detectable_difference"):
        return ""
    reach = f"A difference of {figure(message.smallest_detectable_difference, unit)} would be shown 4 times in 5"
    if unit is Unit.SHARE:
        reach = reach.replace(" %", " points")
    if not message.HasField("items_needed") or message.items_needed <= message.pairs:
        return f"{reach}."
    return f"{reach}; the one observed takes {count(message.items_needed)}."


def _joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences))
