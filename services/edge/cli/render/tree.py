"""Spans as a tree, whatever was sent: without a root, with unknown parents, in circles, ten thousand levels deep."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lodestream_proto.v1.trace_pb2 import Span

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


def branches(spans: Iterable[Span]) -> list[Branch]:
    """Every span once: parents before their children, siblings in the order of their start."""
    in_order = sorted(spans, key=_start)
    children, tops = _families(in_order)
    drawn: list[Branch] = []
    seen: set[int] = set()
    _grow(tops, children, drawn, seen)
    for span in in_order:  # what is left hangs in circles; each is cut at its earliest span
        _grow([span], children, drawn, seen)
    return drawn


def _families(in_order: Sequence[Span]) -> tuple[dict[str, list[Span]], list[Span]]:
    """The children by their parent's id, and those without a parent here."""
    known = {span.span_id for span in in_order}
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
        brood = children.pop(span.span_id, [])
        pending += [(child, below, depth + 1, child is not brood[-1]) for child in reversed(brood)]


def _stem(lead: str, depth: int, *, more: bool) -> str:
    if depth == 0:
        return ""
    if depth > _DEEPEST_DRAWN:
        return f"{lead}…{depth} "
    return lead + ("├─ " if more else "└─ ")


def _start(span: Span) -> int:
    return micros(span.start_time)
