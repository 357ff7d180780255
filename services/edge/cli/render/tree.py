"""Spans as a tree, whatever was sent: without a root, with unknown parents, in circles, ten thousand levels deep."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lodestream_proto.v1.query_pb2 import FoldedSpans
from lodestream_proto.v1.trace_pb2 import LEVEL_ERROR, LEVEL_UNSPECIFIED, Span

from services.edge.cli.render.quantities import micros

_DEEPEST_DRAWN = 12  # levels drawn with lines; deeper ones say their depth


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
    """Every span once: parents before their children, siblings in the order of their start, then what is folded."""
    groups = [(_stand_in(group), group) for group in sorted(folded, key=lambda group: micros(group.start_time))]
    in_order = [*sorted(spans, key=_start), *(span for span, _ in groups)]
    children, tops = _families(in_order)
    drawn: list[Branch] = []
    seen: set[int] = set()
    _grow(tops, children, drawn, seen)
    for span in in_order:  # what is left hangs in circles; each is cut at its earliest span
        _grow([span], children, drawn, seen)
    by_stand_in = {id(span): group for span, group in groups}
    return [
        replace(branch, folded=by_stand_in[id(branch.span)]) if id(branch.span) in by_stand_in else branch
        for branch in drawn
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
    """The children by their parent's id, and those without a parent here."""
    known = {span.span_id for span in in_order if span.span_id}
    children: dict[str, list[Span]] = {}
    tops = []
    for span in in_order:
        if span.parent_span_id in known:
            children.setdefault(span.parent_span_id, []).append(span)
        else:
            tops.append(span)
    return children, tops


def _grow(tops: Sequence[Span], children: dict[str, list[Span]], drawn: list[Branch], seen: set[int]) -> None:
    """Draw these spans and all below them. `children` is used up, so that a repeated id has its children once."""
    # A pending span: itself, the stem of its parent's children, its depth, whether a sibling follows.
    pending = [(span, "", 0, False) for span in reversed(tops)]
    while pending:
        span, lead, depth, more = pending.pop()
        if id(span) in seen:
            continue
        seen.add(id(span))
        drawn.append(Branch(span, _stem(lead, depth, more=more), depth, depth == 0 and bool(span.parent_span_id)))
        below = lead if not 0 < depth < _DEEPEST_DRAWN else lead + ("│  " if more else "   ")
        brood = children.pop(span.span_id, []) if span.span_id else []
        pending += [(child, below, depth + 1, child is not brood[-1]) for child in reversed(brood)]


def _stem(lead: str, depth: int, *, more: bool) -> str:
    if depth == 0:
        return ""
    if depth > _DEEPEST_DRAWN:
        return f"{lead}…{depth} "
    return lead + ("├─ " if more else "└─ ")


def _start(span: Span) -> int:
    return micros(span.start_time)
