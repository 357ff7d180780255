"""A comparison in a sentence that a person understands."""

from lodestream_proto.v1.experiments_pb2 import (
    METRIC_VERDICT_BETTER,
    METRIC_VERDICT_CANNOT_SAY,
    METRIC_VERDICT_WORSE,
    MetricComparison,
)

from services.read.query.experiments.statistics.figures import (
    Unit,
    change,
    count,
    figure,
    percentage,
    probability,
    rounded_probability,
)
from services.read.query.experiments.statistics.finding import Finding, Rules


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
