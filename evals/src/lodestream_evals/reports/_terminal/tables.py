"""Tables of checks, metrics, comparisons and segments; the narrower the terminal, the fewer their columns."""

from collections.abc import Sequence

from lodestream_proto.v1 import experiments_pb2 as pb
from rich.table import Table
from rich.text import Text

from lodestream_evals.reports._facts import bounds
from lodestream_evals.reports._findings import Findings
from lodestream_evals.reports._gate import Check, Outcome
from lodestream_evals.reports._metrics import Metric
from lodestream_evals.reports._readable import one_line
from lodestream_evals.reports._segments import Segment
from lodestream_evals.reports._units import Kind, probability, shown, signed

_VERDICTS = {
    pb.METRIC_VERDICT_BETTER: ("better", "green"),
    pb.METRIC_VERDICT_WORSE: ("worse", "bold red"),
    pb.METRIC_VERDICT_NOT_SHOWN: ("not shown", "dim"),
    pb.METRIC_VERDICT_CANNOT_SAY: ("can't say", "yellow"),
}
_OUTCOMES = {Outcome.PASSED: ("passed", "green"), Outcome.FAILED: ("FAILED", "bold red"),
             Outcome.CANNOT_JUDGE: ("can't judge", "yellow")}  # fmt: skip
_FOREST = 21  # cells of an interval's picture; odd, so that zero has a cell
_BAR = 20


def check_table(checks: Sequence[Check]) -> Table:
    """A line a check of the gate."""
    table = _table()
    table.add_column("")
    table.add_column("check", ratio=1)
    table.add_column("why", ratio=2)
    for check in checks:
        table.add_row(Text(*_OUTCOMES[check.outcome]), _cell(check.name, 80), _cell(check.reason, 400))
    return table


def metric_table(metrics: Sequence[Metric], width: int) -> Table:
    """A line a metric of one run."""
    table = _table()
    table.add_column("metric", overflow="ellipsis", no_wrap=True)
    table.add_column("mean", justify="right", no_wrap=True)
    if width >= 80:
        table.add_column("", no_wrap=True)
    if width >= 70:
        table.add_column("95 % interval", no_wrap=True)
    table.add_column("values", justify="right", no_wrap=True)
    table.add_column("errors", justify="right", no_wrap=True)
    for its in metrics:
        mean = shown(its.kind, its.mean) if its.mean is not None else ""
        row = [_cell(its.name, 60), Text(mean) if mean or not its.counts else _counts(its)]
        if width >= 80:
            row.append(Text(_bar(its.mean) if its.kind is Kind.SHARE and its.mean is not None else "", style="cyan"))
        if width >= 70:
            row.append(Text(" to ".join(f"{100 * each:.1f} %" for each in its.interval) if its.interval else ""))
        table.add_row(*row, Text(f"{its.count:,}"), Text(f"{its.errors:,}" if its.errors else "", style="red"))
    return table


def comparison_table(metrics: Sequence[pb.MetricComparison], found: Findings, width: int) -> Table:
    """A line a metric: both means, the difference with its interval, and the verdict."""
    table = _table()
    table.add_column("metric", overflow="ellipsis", no_wrap=True)
    table.add_column("baseline", justify="right", no_wrap=True)
    table.add_column("run", justify="right", no_wrap=True)
    table.add_column("change", justify="right", no_wrap=True)
    if width >= 118:
        table.add_column(f"{'less':<{_FOREST // 2}}0{'more':>{_FOREST // 2}}", no_wrap=True)
    if width >= 80:
        table.add_column(found.interval, overflow="fold")
    table.add_column("verdict", no_wrap=True)
    if width >= 100:
        table.add_column("p", justify="right", no_wrap=True)
        table.add_column("pairs", justify="right", no_wrap=True)
    if width >= 70:
        table.add_column("+/-", justify="right", no_wrap=True)
    for its in metrics:
        table.add_row(*_compared(its, found.kinds.get(its.metric, Kind.NUMBER), width))
    return table


def segment_table(segments: Sequence[Segment], against: str) -> Table:
    """A line a segment."""
    table = _table()
    table.add_column("segment", overflow="ellipsis", no_wrap=True)
    table.add_column("metric", overflow="ellipsis", no_wrap=True)
    table.add_column("mean", justify="right", no_wrap=True)
    table.add_column(against, justify="right", no_wrap=True)
    table.add_column("items", justify="right", no_wrap=True)
    for its in segments:
        against_text = shown(its.kind, its.against) if its.against is not None else ""
        name = _cell(f"{its.key} = {its.value}", 60)
        table.add_row(
            name, _cell(its.metric, 40), Text(shown(its.kind, its.mean)), Text(against_text), Text(f"{its.count:,}")
        )
    return table


def verdict(its: pb.MetricComparison) -> Text:
    """The verdict's word in its colour."""
    return Text(*_VERDICTS.get(its.verdict, ("can't say", "yellow")))


def forest(low: float, middle: float, high: float) -> str:
    """An interval around its middle on a line with zero in the centre, as wide as the interval needs."""
    reach = max(abs(low), abs(high), abs(middle)) or 1.0
    half = _FOREST // 2

    def cell(value: float) -> int:
        return half + round(max(-1.0, min(value / reach, 1.0)) * half)

    line = ["─" if cell(low) <= at <= cell(high) else " " for at in range(_FOREST)]
    line[half] = "┼" if line[half] == "─" else "┊"
    line[cell(low)], line[cell(high)] = "├", "┤"
    line[cell(middle)] = "●"
    return "".join(line)


def _compared(its: pb.MetricComparison, kind: Kind, width: int) -> list[Text]:
    style = verdict(its).style if its.verdict in {pb.METRIC_VERDICT_BETTER, pb.METRIC_VERDICT_WORSE} else ""
    row = [
        _cell(its.metric, 60),
        Text(shown(kind, its.baseline_mean) if its.HasField("baseline_mean") else ""),
        Text(shown(kind, its.run_mean) if its.HasField("run_mean") else ""),
        Text(signed(kind, its.difference) if its.HasField("difference") else "", style=style),
    ]
    known = its.HasField("difference") and its.HasField("interval_low") and its.HasField("interval_high")
    if width >= 118:
        picture = forest(its.interval_low, its.difference, its.interval_high) if known else ""
        row.append(Text(picture, style=style))
    if width >= 80:
        row.append(Text(bounds(kind, its)))
    row.append(verdict(its))
    if width >= 100:
        p = its.p_adjusted if its.HasField("p_adjusted") else its.p_value
        shown_p = its.HasField("p_adjusted") or its.HasField("p_value")
        row += [Text(probability(p) if shown_p else ""), Text(f"{its.pairs:,}")]
    if width >= 70:
        row.append(Text(f"+{its.improved:,}/-{its.regressed:,}" if its.improved or its.regressed else ""))
    return row


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False, expand=False)


def _cell(text: str, most: int) -> Text:
    return Text(one_line(text, most))


def _counts(its: Metric) -> Text:
    most = sorted(its.counts.items(), key=lambda pair: (-pair[1], pair[0]))[:3]
    return Text(one_line(", ".join(f"{name} {times:,}" for name, times in most), 60))


def _bar(share: float) -> str:
    full = round(max(0.0, min(share, 1.0)) * _BAR)
    return "█" * full + "░" * (_BAR - full)
