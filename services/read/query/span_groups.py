"""The overview of a trace, however large: which spans are shown, and in which groups the others are counted. Pure.

Shown are errors, the critical path, the slowest and the first levels, each with the spans above it, up to a number.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from lodestream_proto.v1.trace_pb2 import LEVEL_ERROR
from numpy.typing import NDArray

from services.read.query.span_tree import NONE, RUNNING, Flags, Positions, SpanTree, fixed_point

MAX_GROUPS_OF_PARENT = 6
"""Groups below one span, at most; the last then has what has no group of its own."""
_ALIKE = 3  # of siblings with one name so many are shown for being in a first level
_TRIES = 8  # for each span that may be shown: some can't be, because too many are above them


@dataclass(frozen=True, slots=True)
class Group:
    """Siblings with one name that are not shown."""

    parent: int
    """The position of the span that is shown and has them as children; NONE: they have no parent in the trace."""
    example: int | None
    """The position of one of them, which has the name of all; None: they have several names."""
    type: int
    span_count: int
    descendant_count: int
    error_count: int
    duration: int
    max_duration: int
    start: int
    end: int
    """Microseconds as the tree's; RUNNING: none has ended."""


def choose_spans(tree: SpanTree, *, most: int, depth: int, errors_only: bool) -> Positions:
    """Return the positions of the spans to show, in start order, each with its parent.

    Args:
        tree: The trace.
        most: Spans, at most.
        depth: Only the first levels; 0 for all.
        errors_only: Only spans with an error, and those above them.
    """
    shown, alike = _Shown(tree, most), _numbers_among_alike(tree)
    errors = tree.spans["level"] == LEVEL_ERROR
    if depth:
        depths = tree.depths()
        errors &= depths < depth
        if not errors_only:
            shown.add(_sorted(np.flatnonzero(depths < depth), depths), upto=most)
            return shown.positions()
    origins = _sorted(np.flatnonzero(_origins(tree, errors)), alike)
    if errors_only:
        shown.add(origins, upto=most)
        return shown.positions()
    if len(tree) <= most:
        return tree.positions()
    durations, most = _durations(tree), max(1, most // 2)  # a line for each span, and about as many for what is folded
    shown.add(np.flatnonzero(tree.parents == NONE), upto=max(1, most // 8))
    shown.add(origins, upto=most // 2)
    shown.add(_sorted(np.flatnonzero(tree.critical), -durations), upto=most * 3 // 4)
    shown.add(_sorted(tree.positions(), -durations)[: most // 8], upto=most * 7 // 8)
    shown.add(_sorted(np.flatnonzero(alike < _ALIKE), tree.depths()), upto=most)
    return shown.positions()


def _sorted(positions: Positions, by: NDArray[np.int64]) -> Positions:
    """Return positions sorted by a key, then in start order."""
    return positions[np.argsort(by[positions], kind="stable")]


def group_hidden(tree: SpanTree, shown: Positions) -> list[Group]:
    """Return the spans that are not shown, in groups by parent, name and type; the largest groups of a parent first."""
    size = len(tree)
    is_shown = np.zeros(size + 1, np.bool_)
    is_shown[shown] = True
    if is_shown[:-1].all():
        return []
    is_shown[size] = True  # stands above those without a parent
    parents = np.where(tree.parents == NONE, size, tree.parents)
    positions = np.arange(size + 1)
    above = np.append(parents, size)
    owner = fixed_point(np.where(is_shown, positions, above))[:-1]
    heads = fixed_point(np.where(is_shown | is_shown[above], positions, above))[:-1]
    hidden = np.flatnonzero(~is_shown[:-1])
    leading = hidden[heads[hidden] == hidden]
    return _groups(tree, owner, heads, hidden, leading)


def _groups(tree: SpanTree, owner: Positions, heads: Positions, hidden: Positions, leading: Positions) -> list[Group]:
    spans = tree.spans
    order = leading[np.lexsort((spans["type"][leading], spans["name"][leading], owner[leading]))]
    keys = np.stack((owner[order], spans["name"][order], spans["type"][order]))
    number = np.append(0, np.cumsum((keys[:, 1:] != keys[:, :-1]).any(axis=0)))
    number, several = _merged(owner[order], number)
    group_of = np.empty(len(tree), np.int64)
    group_of[order] = number
    groups = int(number.max()) + 1
    of_hidden = group_of[heads[hidden]]
    durations = _durations(tree)
    counts = np.bincount(number, minlength=groups)
    below = np.bincount(of_hidden, minlength=groups) - counts
    errors = np.bincount(of_hidden[spans["level"][hidden] == LEVEL_ERROR], minlength=groups)
    starts, ends = np.full(groups, np.iinfo(np.int64).max), np.full(groups, RUNNING)
    longest, total = np.zeros(groups, np.int64), np.zeros(groups, np.int64)
    np.minimum.at(starts, number, spans["start"][order])
    np.maximum.at(ends, number, spans["end"][order])
    np.maximum.at(longest, number, durations[order])
    np.add.at(total, number, durations[order])
    first = np.full(groups, len(order))
    np.minimum.at(first, number, np.arange(len(order)))
    examples = order[first]
    folded = [
        Group(
            parent=NONE if owner[example] == len(tree) else int(owner[example]),
            example=None if several[group] else int(example),
            type=0 if several[group] else int(spans["type"][example]),
            span_count=int(counts[group]),
            descendant_count=int(below[group]),
            error_count=int(errors[group]),
            duration=int(total[group]),
            max_duration=int(longest[group]),
            start=int(starts[group]),
            end=int(ends[group]),
        )
        for group, example in enumerate(examples)
    ]
    return sorted(folded, key=lambda group: (group.parent, group.example is None, -group.span_count, group.start))


def _merged(owner: Positions, number: Positions) -> tuple[Positions, Flags]:
    """Renumber groups: of each parent the largest, then one for all others; and return which ones are for others."""
    groups = int(number.max()) + 1
    parent = np.empty(groups, np.int64)
    parent[number] = owner
    order = np.lexsort((-np.bincount(number), parent))
    changes = np.append(True, parent[order][1:] != parent[order][:-1])
    first = np.maximum.accumulate(np.where(changes, np.arange(groups), 0))
    rank = np.arange(groups) - first
    of_parent = np.bincount(np.cumsum(changes) - 1)[np.cumsum(changes) - 1]
    beyond = (rank >= MAX_GROUPS_OF_PARENT - 1) & (of_parent > MAX_GROUPS_OF_PARENT)
    new = np.cumsum(~beyond | (rank == MAX_GROUPS_OF_PARENT - 1)) - 1
    renumbered = np.empty(groups, np.int64)
    renumbered[order] = new
    several = np.zeros(int(new.max()) + 1, np.bool_)
    several[new[beyond]] = True
    return renumbered[number], several


class _Shown:
    def __init__(self, tree: SpanTree, most: int) -> None:
        self._parents, self._most, self._shown = tree.parents, most, set[int]()

    def add(self, seeds: Sequence[int] | Positions, *, upto: int) -> None:
        """Show these with all above them, in this order, until so many are shown."""
        for seed in _some(seeds, _TRIES * self._most):
            if len(self._shown) >= upto:
                return
            path, at = list[int](), seed
            while at != NONE and at not in self._shown and len(path) <= self._most:
                path.append(at)
                at = int(self._parents[at])
            if len(self._shown) + len(path) <= upto:
                self._shown.update(path)

    def positions(self) -> Positions:
        return np.array(sorted(self._shown), np.int64)


def _some(seeds: Sequence[int] | Positions, most: int) -> Iterable[int]:
    return [int(seed) for seed in seeds[:most]]


def _origins(tree: SpanTree, marked: Flags) -> Flags:
    """Those that are marked without having a child that is."""
    origins = marked.copy()
    above = tree.parents[marked]
    origins[above[above != NONE]] = False
    return origins


def _numbers_among_alike(tree: SpanTree) -> Positions:
    """Return how many siblings with the same name and type come before each span."""
    spans = tree.spans
    order = np.lexsort((spans["type"], spans["name"], tree.parents))
    keys = np.stack((tree.parents[order], spans["name"][order], spans["type"][order]))
    changes = np.append(True, (keys[:, 1:] != keys[:, :-1]).any(axis=0))[: len(order)]
    positions = np.arange(len(order))
    numbers = np.empty(len(order), np.int64)
    numbers[order] = positions - np.maximum.accumulate(np.where(changes, positions, 0))
    return numbers


def _durations(tree: SpanTree) -> NDArray[np.int64]:
    """Zero for those that run."""
    starts, ends = tree.spans["start"], tree.spans["end"]
    return np.where(ends == RUNNING, 0, np.maximum(np.where(ends == RUNNING, starts, ends) - starts, 0))
