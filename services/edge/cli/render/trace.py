"""One trace: what is known of it as a whole, its tree with a timeline, what went wrong, and where the time went."""

from collections.abc import Sequence
from datetime import tzinfo

from lodestream_proto.v1 import trace_pb2
from lodestream_proto.v1.query_pb2 import FoldedSpans
from lodestream_proto.v1.trace_pb2 import Span, TraceSummary
from rich.text import Text

from services.edge.cli.render.anatomy import anatomy
from services.edge.cli.render.columns import GAP, Column, lay_out
from services.edge.cli.render.looks import level_word, named, type_style, type_word
from services.edge.cli.render.quantities import cost, counted, date_and_time, duration, micros, tokens
from services.edge.cli.render.text import fitted, flowed, folded, inert
from services.edge.cli.render.timeline import axis, bar
from services.edge.cli.render.tree import Branch, branches

_CRITICAL = "█ critical path   ━ beside it"
_MISSING_PARENT = "┄ "
_SPAN_NAME, _FOLDED_NAME = 24, 44  # cells below which a name is not worth showing
_LABEL = len("warning ")
_LONGEST_MESSAGE = 400  # characters of a status message; --content has the rest


def draw_trace(
    trace: TraceSummary, spans: Sequence[Span], folded: Sequence[FoldedSpans] = (), *, width: int, zone: tzinfo
) -> list[Text]:
    """The whole picture, in lines of at most `width` cells; of what is folded a line each group."""
    drawn = branches(spans, folded)
    return [
        *_head(trace, width=width, zone=zone),
        Text(),
        *_waterfall(drawn, width),
        *_problems(drawn, width),
        *_unfolding(spans, folded, width),
        Text(),
        Text.assemble(("where the time went", "dim"), f"  {duration(trace.latency_us)}"),
        *anatomy(trace.anatomy, trace.latency_us, width),
    ]


def _head(trace: TraceSummary, *, width: int, zone: tzinfo) -> list[Text]:
    name = named(trace.name, trace.level)
    name.stylize("bold")
    measured = [
        level_word(trace.level),
        Text(duration(trace.latency_us) if trace.HasField("end_time") else "running"),
        Text(counted(trace.span_count, "span")),
        Text(f"{tokens(trace.tokens)} tokens" if trace.tokens.total else ""),
        Text(cost(trace.cost_usd)),
        Text(date_and_time(trace.start_time, zone), style="dim"),
        Text("" if trace.root_seen else "the root span has not come yet", style="yellow"),
    ]
    said = [
        Text.assemble((f"{label} ", "dim"), inert(value))
        for label, value in (
            ("user", trace.user_id),
            ("session", trace.session_id),
            ("environment", trace.environment),
            ("release", trace.release),
            ("version", trace.version),
            ("tags", ", ".join(trace.tags)),
        )
        if value
    ]
    return [
        *flowed([Text.assemble(name, "  ", (trace.trace_id, "dim"))], width, gap=""),
        *flowed([piece for piece in measured if piece.plain], width, gap=" · ", indent=2),
        *flowed(said, width, gap=" · ", indent=2),
    ]


def _waterfall(drawn: Sequence[Branch], width: int) -> list[Text]:
    """The tree on the left, a bar a span on the right."""
    if not drawn:
        return []
    least = _FOLDED_NAME if any(branch.folded for branch in drawn) else _SPAN_NAME
    table = lay_out(
        [
            Column(title="span", cells=[_name(branch) for branch in drawn], least=least),
            Column(title="type", cells=[type_word(branch.span) for branch in drawn], rank=4),
            Column(title="model", cells=[Text(inert(branch.span.model)) for branch in drawn], rank=5, least=10),
            Column(title="time", cells=[_duration(branch) for branch in drawn], right=True),
            Column(title="tokens", cells=[Text(tokens(branch.span.tokens)) for branch in drawn], right=True, rank=3),
            Column(title="cost", cells=[Text(cost(branch.span.cost_usd)) for branch in drawn], right=True, rank=2),
        ],
        width - max(width // 4, 16) - GAP,
    )
    begin = min(micros(branch.span.start_time) for branch in drawn)
    whole = max(max(map(_end, drawn)) - begin, 1)
    cells = max(width - table[0].cell_len - GAP, 1)
    bars = [Text(axis(whole, cells), style="dim")]
    for branch in drawn:
        start = micros(branch.span.start_time) - begin
        end = (_end(branch) if branch.span.HasField("end_time") else begin + whole) - begin
        drawing = bar(start, end, whole=whole, width=cells, heavy=branch.span.critical)
        bars.append(Text(drawing, style=_bar_style(branch.span)))
    legend = [Text(_CRITICAL, style="dim")]
    if any(branch.parent_missing and not branch.folded for branch in drawn):
        legend.append(Text(f"{_MISSING_PARENT}its parent is not here", style="dim"))
    gap = Text(" " * GAP)
    return [
        *(left + gap + right for left, right in zip(table, bars, strict=True)),
        *flowed(legend, width, gap="   "),
    ]


def _problems(drawn: Sequence[Branch], width: int) -> list[Text]:
    """The status messages of spans, in the order of the tree."""
    lines = []
    for span in (branch.span for branch in drawn if branch.span.status_message and not branch.folded):
        label = level_word(span.level) or Text("status", style="dim")
        message = inert(f"{span.name}: {span.status_message[:_LONGEST_MESSAGE]}")
        lines += [
            fitted(Text() if line else label, _LABEL) + Text(piece)
            for line, piece in enumerate(folded(message, max(width - _LABEL, 1)))
        ]
    return lines


def _unfolding(spans: Sequence[Span], folded: Sequence[FoldedSpans], width: int) -> list[Text]:
    """How much is not shown, and how to see it."""
    if not folded:
        return []
    hidden = sum(group.span_count + group.descendant_count for group in folded)
    largest = max(folded, key=lambda group: group.span_count + group.descendant_count)
    options = ["--all: everything", "--depth N: the first N levels", "--errors: only errors"]
    if largest.parent_span_id:
        options.append(f"--span {largest.parent_span_id}: below the span with most of them")
    ways = [Text(option, style="dim") for option in options]
    return [
        Text(),
        Text(f"{hidden:,} of {hidden + len(spans):,} spans are folded"),
        *flowed(ways, width, gap=" · ", indent=2),
    ]


def _group_name(group: FoldedSpans) -> str:
    """`… 1,204 more embed spans, 12.3 s together, 3,400 below them, 2 errors`."""
    noun = "span" if group.span_count == 1 else "spans"
    facts = [f"… {group.span_count:,} more {f'{group.name} ' if group.name else ''}{noun}"]
    if group.duration_us:
        facts.append(f"{duration(group.duration_us)} together")
    if group.descendant_count:
        facts.append(f"{group.descendant_count:,} below")
    if group.error_count:
        facts.append(counted(group.error_count, "error"))
    return inert(", ".join(facts))


def _name(branch: Branch) -> Text:
    span = branch.span
    if branch.folded:
        style = "red" if branch.folded.error_count else "dim"
        return Text.assemble((branch.stem, "dim"), (_group_name(branch.folded), style))
    orphaned = _MISSING_PARENT if branch.parent_missing else ""
    return Text.assemble((orphaned, "yellow"), (branch.stem, "dim"), named(span.name, span.level))


def _duration(branch: Branch) -> Text:
    span = branch.span
    if branch.folded:
        return Text()
    return Text(duration(span.duration_us)) if span.HasField("end_time") else Text("running", style="yellow")


def _end(branch: Branch) -> int:
    span = branch.span
    return micros(span.end_time if span.HasField("end_time") else span.start_time)


def _bar_style(span: Span) -> str:
    return "red" if span.level == trace_pb2.LEVEL_ERROR else type_style(span.type)
