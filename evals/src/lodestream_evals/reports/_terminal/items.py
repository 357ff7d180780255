"""Items with what went in, what came out and why it was judged so."""

from collections.abc import Iterator, Mapping, Sequence

from lodestream_proto.v1 import experiments_pb2 as pb
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lodestream_evals.reports._changes import ItemChanges, MetricChange
from lodestream_evals.reports._readable import one_line
from lodestream_evals.reports._units import Kind, shown
from lodestream_evals.reports._views import ItemView, Judgement

_MOST = 10
_LONGEST = 280  # characters of a value
_LABEL = len("expected")


def changed_items(items: Sequence[ItemChanges], kinds: Mapping[str, Kind]) -> Iterator[RenderableType]:
    """Each with its input, both outputs, both reasons and both traces."""
    for item in items[:_MOST]:
        moves = [its for its in item.metrics if its.change == pb.ITEM_CHANGE_REGRESSED] or list(item.metrics)
        moved = ", ".join(f"{one_line(its.metric, 40)} {change(its, kinds)}" for its in moves)
        yield _line(Text.assemble((one_line(item.item_id, 60), "bold"), "  ", (moved, "red")), 2)
        yield from _said("input", item.input)
        yield from _said("expected", item.expected)
        yield from _side("before", item.before, item.before_error, item.before_trace_id, moves)
        yield from _side("now", item.after, item.after_error, item.after_trace_id, moves)
    yield from _more(len(items))


def failed_items(items: Sequence[ItemView]) -> Iterator[RenderableType]:
    """Each with its error."""
    for item in items[:_MOST]:
        yield _line(Text.assemble((one_line(item.item_id, 60), "bold"), _repetition(item)), 2)
        yield from _said("input", item.input)
        yield from _said("error", item.error, "red")
        yield from _said("attempts", f"{item.attempts:,}" if item.attempts > 1 else "")
        yield from _said("trace", item.trace_id, "dim")
    yield from _more(len(items))


def missed_items(items: Sequence[ItemView]) -> Iterator[RenderableType]:
    """Each with the checks that it did not pass, and their reasons."""
    for item in items[:_MOST]:
        names = ", ".join(one_line(its.name, 40) for its in item.missed)
        yield _line(Text.assemble((one_line(item.item_id, 60), "bold"), _repetition(item), "  ", (names, "red")), 2)
        yield from _said("input", item.input)
        yield from _said("expected", item.expected)
        yield from _said("output", item.output)
        yield from _reasons(item.missed)
        yield from _said("trace", item.trace_id, "dim")
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
    yield from _said(name, error or (item.output if item else ""), "red" if error else "")
    if item:
        yield from _reasons([its for move in moves if (its := item.judgement(move.metric))])
    yield from _said("", f"trace {trace_id}" if trace_id else "", "dim")


def _reasons(judgements: Sequence[Judgement]) -> Iterator[RenderableType]:
    for its in judgements:
        if reason := its.error or its.comment:
            yield from _said("", f"{one_line(its.name, 40)}: {reason}", "yellow" if its.error else "dim")


def _said(label: str, value: str, style: str = "") -> Iterator[RenderableType]:
    if value:
        beside = Table.grid(padding=(0, 1, 0, 0))
        beside.add_column(width=_LABEL)
        beside.add_column(overflow="fold")
        beside.add_row(Text(label, style="dim"), Text(one_line(value, _LONGEST), style=style))
        yield Padding(beside, (0, 0, 0, 4))


def _repetition(item: ItemView) -> str:
    return f" (repetition {item.repetition + 1})" if item.repetition else ""


def _more(number: int) -> Iterator[RenderableType]:
    if number > _MOST:
        yield _line(Text(f"… and {number - _MOST:,} more", style="dim"), 2)


def _line(text: Text, indent: int) -> RenderableType:
    return Padding(text, (0, 0, 0, indent))
