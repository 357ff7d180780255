"""The report drawn with rich, in the order of what matters. Imported late, as rich is an extra."""

import io
from collections.abc import Iterator, Mapping, Sequence

from lodestream_proto.v1 import experiments_pb2 as pb
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lodestream_evals.reports._changes import ItemChanges, MetricChange
from lodestream_evals.reports._facts import bounds, facts, progress, remark, title
from lodestream_evals.reports._findings import STATES, Candidate, Findings
from lodestream_evals.reports._gate import Check, Outcome
from lodestream_evals.reports._metrics import Metric
from lodestream_evals.reports._readable import one_line
from lodestream_evals.reports._segments import Segment
from lodestream_evals.reports._units import Kind, probability, shown, signed
from lodestream_evals.reports._views import ItemView, Judgement

_MOST_SEGMENTS = 6
_MOST_NAMED = 8
_LONGEST = 600  # characters of a remark


def drawn(found: Findings, *, width: int, color: bool) -> str:
    """Lines of at most `width` cells."""
    written = io.StringIO()
    console = Console(
        file=written, width=width, force_terminal=color, no_color=not color, legacy_windows=False,
        color_system="standard" if color else None, highlight=False, markup=False, emoji=False, force_jupyter=False,
    )  # fmt: skip
    for part in _parts(found, width):
        console.print(part)
    return "\n".join(line.rstrip() for line in written.getvalue().split("\n")).strip("\n") + "\n"


def _parts(found: Findings, width: int) -> Iterator[RenderableType]:
    yield from _head(found)
    if found.gate:
        yield from _section("gate", [check_table(found.gate.checks)])
    for candidate in found.candidates:
        yield from _comparison(found, candidate, width)
    if not found.candidates and found.metrics:
        yield from _section("metrics", [metric_table([*found.metrics, *found.costs], width)])
    yield from _section("the run as a whole", list(_judgements(found)))
    yield from _section(f"failed ({len(found.failed):,})", list(failed_items(found.failed)))
    if not found.candidates:
        yield from _section(f"checks not passed ({len(found.missed):,})", list(missed_items(found.missed)))
        worse = [segment for segment in found.segments if segment.gap < 0][:_MOST_SEGMENTS]
        yield from _section("where it struggled", [segment_table(worse, "all items")] if worse else [])
    yield from _section("what the figures can't say", [_bullet(line, "yellow") for line in found.warnings])


def _head(found: Findings) -> Iterator[RenderableType]:
    run = found.run
    style = {pb.EXPERIMENT_STATE_COMPLETED: "green", pb.EXPERIMENT_STATE_FAILED: "red"}.get(run.state, "yellow")
    yield Text.assemble((title(run), "bold"), "  ", (STATES.get(run.state, "not begun"), style), "  ", progress(run))
    run_facts = facts(run)
    if found.baseline:
        run_facts.insert(0, ("baseline", title(found.baseline)))
    if len(found.candidates) > 1:
        run_facts.insert(1, ("compared", ", ".join(title(each.run) for each in found.candidates)))
    wide = max((len(name) for name, _ in run_facts), default=0)
    for name, value in run_facts:
        yield Padding(Text.assemble((f"{name:<{wide}}  ", "dim"), value), (0, 0, 0, 2))
    yield Text()
    yield Text(found.headline, style="bold")


def _comparison(found: Findings, candidate: Candidate, width: int) -> Iterator[RenderableType]:
    assert found.baseline is not None
    several = len(found.candidates) > 1
    name = f"{title(candidate.run)} against {title(found.baseline)}" if several else "against the baseline"
    yield from _section(name, [comparison_table(candidate.metrics, found, width), *_remarks(found, candidate)])
    worse, better = candidate.regressed, candidate.improved
    yield from _section(f"got worse ({len(worse):,})", list(changed_items(worse, found.kinds)))
    yield from _section(f"got better ({len(better):,})", [_names(better)] if better else [])
    lost = [segment for segment in candidate.segments if segment.gap < 0][:_MOST_SEGMENTS]
    yield from _section("where it lost", [segment_table(lost, "baseline")] if lost else [])


def _remarks(found: Findings, candidate: Candidate) -> Iterator[RenderableType]:
    for its in candidate.metrics:
        if words := remark(found.kinds.get(its.metric, Kind.NUMBER), its):
            yield _bullet(words, "dim")


def _names(changed: Sequence[ItemChanges]) -> RenderableType:
    ids = [one_line(item.item_id, 60) for item in changed[:_MOST_NAMED]]
    more = f" and {len(changed) - _MOST_NAMED:,} more" if len(changed) > _MOST_NAMED else ""
    return Padding(Text(", ".join(ids) + more, style="dim"), (0, 0, 0, 2))


def _judgements(found: Findings) -> Iterator[RenderableType]:
    for its in found.run_judgements:
        value = shown(its.kind, its.number) if its.kind is Kind.NUMBER and its.number is not None else its.words
        line = Text.assemble(one_line(its.name, 80), "  ", (one_line(its.error or value, _LONGEST), "bold"))
        if its.comment:
            line.append(f"  {one_line(its.comment, _LONGEST)}", style="dim")
        yield Padding(line, (0, 0, 0, 2))


def _bullet(line: str, style: str) -> RenderableType:
    return Padding(Text(f"· {one_line(line, _LONGEST)}", style=style), (0, 0, 0, 2))


def _section(name: str, body: Sequence[RenderableType]) -> Iterator[RenderableType]:
    if body:
        yield Text()
        yield Text(name, style="bold cyan")
        yield from body


# --- Tables -----------------------------------------------------------------------------------------------------------

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


# --- Items ------------------------------------------------------------------------------------------------------------

_MOST = 10
_LONGEST_VALUE = 280  # characters of a value
_LABEL = len("expected")


def changed_items(items: Sequence[ItemChanges], kinds: Mapping[str, Kind]) -> Iterator[RenderableType]:
    """Each with its input, both outputs, both reasons and both traces."""
    for item in items[:_MOST]:
        moves = [its for its in item.metrics if its.change == pb.ITEM_CHANGE_REGRESSED] or list(item.metrics)
        moved = ", ".join(f"{one_line(its.metric, 40)} {change(its, kinds)}" for its in moves)
        yield _line(Text.assemble((one_line(item.item_id, 60), "bold"), "  ", (moved, "red")), 2)
        yield from _labelled("input", item.input)
        yield from _labelled("expected", item.expected)
        yield from _side("before", item.before, item.before_error, item.before_trace_id, moves)
        yield from _side("now", item.after, item.after_error, item.after_trace_id, moves)
    yield from _more(len(items))


def failed_items(items: Sequence[ItemView]) -> Iterator[RenderableType]:
    """Each with its error."""
    for item in items[:_MOST]:
        yield _line(Text.assemble((one_line(item.item_id, 60), "bold"), _repetition(item)), 2)
        yield from _labelled("input", item.input)
        yield from _labelled("error", item.error, "red")
        yield from _labelled("attempts", f"{item.attempts:,}" if item.attempts > 1 else "")
        yield from _labelled("trace", item.trace_id, "dim")
    yield from _more(len(items))


def missed_items(items: Sequence[ItemView]) -> Iterator[RenderableType]:
    """Each with the checks that it did not pass, and their reasons."""
    for item in items[:_MOST]:
        names = ", ".join(one_line(its.name, 40) for its in item.missed)
        yield _line(Text.assemble((one_line(item.item_id, 60), "bold"), _repetition(item), "  ", (names, "red")), 2)
        yield from _labelled("input", item.input)
        yield from _labelled("expected", item.expected)
        yield from _labelled("output", item.output)
        yield from _reasons(item.missed)
        yield from _labelled("trace", item.trace_id, "dim")
    yield from _more(len(items))


def change(its: MetricChange, kinds: Mapping[str, Kind]) -> str:
    """`true → false`, `0.9 → 0.4`, `polite → rude`."""
    kind = kinds.get(its.metric, Kind.NUMBER)
    return f"{_value(kind, its.before, its.before_category)} → {_value(kind, its.after, its.after_category)}"


def _value(kind: Kind, value: float | None, category: str) -> str:
    if value is None:
        return one_line(category, 40) if category else "none"
    if kind is Kind.SHARE and value in {0.0, 1.0}:
        return "true" if value else "false"
    return shown(kind, value)


def _side(
    name: str, item: ItemView | None, error: str, trace_id: str, moves: Sequence[MetricChange]
) -> Iterator[RenderableType]:
    yield from _labelled(name, error or (item.output if item else ""), "red" if error else "")
    if item:
        yield from _reasons([its for move in moves if (its := item.judgement(move.metric))])
    yield from _labelled("", f"trace {trace_id}" if trace_id else "", "dim")


def _reasons(judgements: Sequence[Judgement]) -> Iterator[RenderableType]:
    for its in judgements:
        if reason := its.error or its.comment:
            yield from _labelled("", f"{one_line(its.name, 40)}: {reason}", "yellow" if its.error else "dim")


def _labelled(label: str, value: str, style: str = "") -> Iterator[RenderableType]:
    if value:
        beside = Table.grid(padding=(0, 1, 0, 0))
        beside.add_column(width=_LABEL)
        beside.add_column(overflow="fold")
        beside.add_row(Text(label, style="dim"), Text(one_line(value, _LONGEST_VALUE), style=style))
        yield Padding(beside, (0, 0, 0, 4))


def _repetition(item: ItemView) -> str:
    return f" (repetition {item.repetition + 1})" if item.repetition else ""


def _more(number: int) -> Iterator[RenderableType]:
    if number > _MOST:
        yield _line(Text(f"… and {number - _MOST:,} more", style="dim"), 2)


def _line(text: Text, indent: int) -> RenderableType:
    return Padding(text, (0, 0, 0, indent))
