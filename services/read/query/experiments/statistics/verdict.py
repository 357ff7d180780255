"""Verdicts: what a test and its interval allow to be said."""

from lodestream_proto.v1.experiments_pb2 import (
    METRIC_VERDICT_BETTER,
    METRIC_VERDICT_CANNOT_SAY,
    METRIC_VERDICT_NOT_SHOWN,
    METRIC_VERDICT_WORSE,
    MetricVerdict,
)

from services.read.query.experiments.statistics.finding import Finding, Rules


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
