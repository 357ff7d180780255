"""The picture of one trace: its tree with a timeline, its status messages, its time breakdown, its content."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo

from lodestream_proto.v1 import trace_pb2
from lodestream_proto.v1.query_pb2 import FoldedSpans
from lodestream_proto.v1.trace_pb2 import LEVEL_ERROR, LEVEL_UNSPECIFIED, Span, SpanContent, TraceSummary
from rich.text import Text

from services.edge.cli.render.quantities import cost, counted, date_and_time, duration, micros, tokens
from services.edge.cli.render.styles import level_word, styled_name, type_style, type_word
from services.edge.cli.render.tables import GAP, Column, lay_out
from services.edge.cli.render.text import clip, escape_control, escape_control_lines, fit, flow, wrap
from services.edge.cli.render.timeline import axis, bar, time_breakdown

_DEEPEST_DRAWN = 12  # levels drawn with lines; deeper ones say their depth
_CRITICAL = "█ critical path   ━ not on it"
_MISSING_PARENT = "┄ "
_LABEL = len("warning ")
_LONGEST_MESSAGE = 400  # characters of a status message; --content has the rest
_MARGIN = "  "


@dataclass(frozen=True, slots=True)
class Branch:
    """A span at its place in the tree."""

    span: Span
    stem: str
    """The lines that lead to it."""
    depth: int
    parent_missing: bool
    """It names a parent that is not in the trace, or that it is itself an ancestor of."""
    folded: FoldedSpans | None = None
    """Set: this stands for spans that are not here; `span` then has only what they have in common."""


def branches(spans: Iterable[Span], folded: Iterable[FoldedSpans] = ()) -> list[Branch]:
    """Each span once: parents before children, siblings by start time, then folded groups."""
    groups = [(_stand_in(group), group) for group in sorted(folded, key=lambda group: micros(group.start_time))]
    in_order = [*sorted(spans, key=_start), *(span for span, _ in groups)]
    children, tops = _families(in_order)
    rows: list[Branch] = []
    seen: set[int] = set()
    _grow(tops, children, rows, seen)
    for span in in_order:  # what is left hangs in circles; each is cut at its earliest span
        _grow([span], children, rows, seen)
    by_stand_in = {id(span): group for span, group in groups}
    return [
        replace(branch, folded=by_stand_in[id(branch.span)]) if id(branch.span) in by_stand_in else branch
        for branch in rows
    ]


def _stand_in(group: FoldedSpans) -> Span:
    return Span(
        parent_span_id=group.parent_span_id,
        name=group.name,
        type=group.type,
        start_time=group.start_time,
        end_time=group.end_time if group.HasField("end_time") else None,
        level=LEVEL_ERROR if group.error_count else LEVEL_UNSPECIFIED,
    )


def _families(in_order: Sequence[Span]) -> tuple[dict[str, list[Span]], list[Span]]:
    """The children by parent id, and the spans whose parent is not in the trace."""
    ids = {span.span_id for span in in_order if span.span_id}
    children: dict[str, list[Span]] = {}
    tops = []
    for span in in_order:
        if span.parent_span_id in ids:
            children.setdefault(span.parent_span_id, []).append(span)
        else:
            tops.append(span)
    return children, tops


def _grow(tops: Sequence[Span], children: dict[str, list[Span]], rows: list[Branch], seen: set[int]) -> None:
    """Append these spans and their descendants. `children` is used up, so that a repeated id has its children once."""
    # A pending span: itself, the stem of its parent's children, its depth, whether a sibling follows.
    pending = [(span, "", 0, False) for span in reversed(tops)]
    while pending:
        span, prefix, depth, has_sibling = pending.pop()
        if id(span) in seen:
            continue
        seen.add(id(span))
        rows.append(
            Branch(span, _stem(prefix, depth, has_sibling=has_sibling), depth, depth == 0 and bool(span.parent_span_id))
        )
        below = prefix if not 0 < depth < _DEEPEST_DRAWN else prefix + ("│  " if has_sibling else "   ")
        siblings = children.pop(span.span_id, []) if span.span_id else []
        pending += [(child, below, depth + 1, child is not siblings[-1]) for child in reversed(siblings)]


def _stem(prefix: str, depth: int, *, has_sibling: bool) -> str:
    if depth == 0:
        return ""
    if depth > _DEEPEST_DRAWN:
        return f"{prefix}…{depth} "
    return prefix + ("├─ " if has_sibling else "└─ ")


def _start(span: Span) -> int:
    return micros(span.start_time)


def draw_trace(
    trace: TraceSummary, spans: Sequence[Span], folded: Sequence[FoldedSpans] = (), *, width: int, zone: tzinfo
) -> list[Text]:
    """The whole picture, in lines of at most `width` cells; of what is folded a line each group."""
    rows = branches(spans, folded)
    return [
        *_head(trace, width=width, zone=zone),
        Text(),
        *_waterfall(rows, width),
        *_problems(rows, width),
        *_unfolding(spans, folded, width),
        Text(),
        Text.assemble(("where the time went", "dim"), f"  {duration(trace.latency_us)}"),
        *time_breakdown(trace.anatomy, trace.latency_us, width),
    ]


def _head(trace: TraceSummary, *, width: int, zone: tzinfo) -> list[Text]:
    name = styled_name(trace.name, trace.level)
    name.stylize("bold")
    measured = [
        level_word(trace.level),
        Text(duration(trace.latency_us) if trace.HasField("end_time") else "running"),
        Text(counted(trace.span_count, "span")),
        Text(f"{tokens(trace.tokens)} tokens" if trace.tokens.total else ""),
        Text(cost(trace.cost_usd)),
        Text(date_and_time(trace.start_time, zone), style="dim"),
        Text("" if trace.root_seen else "the root span has not arrived yet", style="yellow"),
    ]
    context = [
        Text.assemble((f"{label} ", "dim"), escape_control(value))
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
        *flow([Text.assemble(name, "  ", (trace.trace_id, "dim"))], width, gap=""),
        *flow([piece for piece in measured if piece.plain], width, gap=" · ", indent=2),
        *flow(context, width, gap=" · ", indent=2),
    ]


def _waterfall(rows: Sequence[Branch], width: int) -> list[Text]:
    """The tree on the left, a bar a span on the right."""
    if not rows:
        return []
    name_width = _FOLDED_NAME if any(branch.folded for branch in rows) else _SPAN_NAME
    table = lay_out(
        [
            Column(title="span", cells=[_name(branch) for branch in rows], min_width=name_width),
            Column(title="type", cells=[type_word(branch.span) for branch in rows], rank=4),
            Column(
                title="model", cells=[Text(escape_control(branch.span.model)) for branch in rows], rank=5, min_width=10
            ),
            Column(title="time", cells=[_duration(branch) for branch in rows], right=True),
            Column(title="tokens", cells=[Text(tokens(branch.span.tokens)) for branch in rows], right=True, rank=3),
            Column(title="cost", cells=[Text(cost(branch.span.cost_usd)) for branch in rows], right=True, rank=2),
        ],
        width - max(width // 4, 16) - GAP,
    )
    begin = min(micros(branch.span.start_time) for branch in rows)
    whole = max(max(map(_end, rows)) - begin, 1)
    cells = max(width - table[0].cell_len - GAP, 1)
    bars = [Text(axis(whole, cells), style="dim")]
    for branch in rows:
        start = micros(branch.span.start_time) - begin
        end = (_end(branch) if branch.span.HasField("end_time") else begin + whole) - begin
        drawing = bar(start, end, whole=whole, width=cells, heavy=branch.span.critical)
        bars.append(Text(drawing, style=_bar_style(branch.span)))
    legend = [Text(_CRITICAL, style="dim")]
    if any(branch.parent_missing and not branch.folded for branch in rows):
        legend.append(Text(f"{_MISSING_PARENT}its parent is missing", style="dim"))
    gap = Text(" " * GAP)
    return [
        *(tree_line + gap + right for tree_line, right in zip(table, bars, strict=True)),
        *flow(legend, width, gap="   "),
    ]


def _problems(rows: Sequence[Branch], width: int) -> list[Text]:
    """The status messages of spans, in the order of the tree."""
    lines = []
    for span in (branch.span for branch in rows if branch.span.status_message and not branch.folded):
        label = level_word(span.level) or Text("status", style="dim")
        message = escape_control(f"{span.name}: {span.status_message[:_LONGEST_MESSAGE]}")
        lines += [
            fit(Text() if line else label, _LABEL) + Text(piece)
            for line, piece in enumerate(wrap(message, max(width - _LABEL, 1)))
        ]
    return lines


def _unfolding(spans: Sequence[Span], folded: Sequence[FoldedSpans], width: int) -> list[Text]:
    """The lines that say how many spans are folded, and how to show them."""
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
        *flow(ways, width, gap=" · ", indent=2),
    ]


def _group_name(group: FoldedSpans) -> str:
    """`… 1,204 more embed spans, 12.3 s together, 3,400 below them, 2 errors`."""
    noun = "span" if group.span_count == 1 else "spans"
    facts = [f"… {group.span_count:,} more {f'{group.name} ' if group.name else ''}{noun}"]
    if group.duration_us:
        facts.append(f"{duration(group.duration_us)} in total")
    if group.descendant_count:
        facts.append(f"{group.descendant_count:,} below")
    if group.error_count:
        facts.append(counted(group.error_count, "error"))
    return escape_control(", ".join(facts))


def _name(branch: Branch) -> Text:
    span = branch.span
    if branch.folded:
        style = "red" if branch.folded.error_count else "dim"
        return Text.assemble((branch.stem, "dim"), (_group_name(branch.folded), style))
    orphaned = _MISSING_PARENT if branch.parent_missing else ""
    return Text.assemble((orphaned, "yellow"), (branch.stem, "dim"), styled_name(span.name, span.level))


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


def contents(spans: Sequence[Span], *, width: int, most_lines: int | None) -> Iterator[Text]:
    """The content of each span that has any, in the order of the tree, wrapped at `width`.

    Each value has at most `most_lines` lines; None means all.
    """
    for branch in branches(spans):
        span = branch.span
        body = [*_facts(span, width), *_blocks(span.content, width, most_lines)]
        if body:
            heading = Text.assemble(
                type_word(span), " ", styled_name(span.name, span.level), (f"  {span.span_id}", "dim")
            )
            yield from (Text(), clip(heading, width), *body)


def _blocks(content: SpanContent, width: int, most_lines: int | None) -> Iterator[Text]:
    for label, text in _values(content):
        yield Text(f"{_MARGIN}{label}", style="dim")
        yield from _value_lines(text, width - 2 * len(_MARGIN), most_lines)


def _facts(span: Span, width: int) -> Iterator[Text]:
    facts = [f"model {span.model}" if span.model else "", span.provider]
    if span.HasField("time_to_first_token_us"):
        facts.append(f"first token after {duration(span.time_to_first_token_us)}")
    if span.prompt_name:
        facts.append(f"prompt {span.prompt_name} version {span.prompt_version}")
    facts += [f"{name} {number:,}" for name, number in sorted(span.usage.items())]
    if line := " · ".join(escape_control(fact) for fact in facts if fact):
        yield clip(Text(_MARGIN + line), width)


def _values(content: SpanContent) -> Iterator[tuple[str, str]]:
    """The label and text of each part of a span's content."""
    if content.HasField("input"):
        yield "input", content.input
    if content.HasField("output"):
        yield "output", content.output
    for label, text in (
        ("metadata", content.metadata_json),
        ("model parameters", content.model_parameters_json),
        ("attributes", content.attributes_json),
    ):
        if text not in {"", "{}"}:
            yield label, text
    if content.unreadable:
        yield "not read", content.unreadable
    for event in content.events:
        yield f"event {escape_control(event.name)} at {micros(event.time) / 1e6:.6f}", event.attributes_json


def _value_lines(text: str, width: int, most_lines: int | None) -> Iterator[Text]:
    lines = [line for written in escape_control_lines(_readable(text)) for line in wrap(written, max(width, 8))]
    for line in lines[:most_lines]:
        yield Text(2 * _MARGIN + line)
    if most_lines is not None and len(lines) > most_lines:
        yield Text(f"{2 * _MARGIN}… {len(lines) - most_lines:,} more lines (--full shows all)", style="dim")


def _readable(text: str) -> str:
    """Indent JSON objects and arrays, and unquote a JSON string; any other text stays."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, str):
        return value
    return json.dumps(value, indent=2, ensure_ascii=False) if isinstance(value, dict | list) else text


_SPAN_NAME, _FOLDED_NAME = 24, 44  # cells below which a name is not worth showing
