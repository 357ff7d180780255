"""The shape of a trace: its spans in start order, the parent of each, and the critical path. Pure.

Columns are arrays, so that a million spans take some 50 MB and a second or two.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

COLUMNS = np.dtype(
    [
        ("span_id", "u8"), ("parent_id", "u8"), ("start", "i8"), ("end", "i8"), ("name", "i8"), ("type", "i2"),
        ("level", "i2"),
    ]
)  # fmt: skip
"""A row a span. Ids are their bytes as a big-endian number, 0 for no parent; times are microseconds since any moment;
`name` is a hash."""
RUNNING = np.iinfo(np.int64).min
"""The end of a span that has none."""
NONE = -1
"""The position of a parent that is not in the trace."""

Positions = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SpanTree:
    """The spans of one trace. A span is its position: they are ordered by start, then id."""

    spans: NDArray[Any]
    """Rows of COLUMNS, in start order."""
    parents: Positions
    """The position of each span's parent; NONE where it is not in the trace, or the span is in a circle."""
    critical: Flags

    @classmethod
    def of(cls, spans: NDArray[Any]) -> Self:
        """Make the tree of rows of COLUMNS, in any order. Of several rows with one id the last to start counts."""
        spans = _one_each(spans[np.lexsort((spans["span_id"], spans["start"]))])
        parents = _parents(spans)
        return cls(spans, parents, critical_path(parents, spans["start"], spans["end"]))

    def __len__(self) -> int:
        return len(self.spans)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the tree takes, about."""
        return int(self.spans.nbytes + self.parents.nbytes + self.critical.nbytes)

    def ids(self, positions: Positions | slice) -> list[bytes]:
        """Return the ids of some spans."""
        raw = self.spans["span_id"][positions].astype(">u8").tobytes()
        return [raw[at : at + 8] for at in range(0, len(raw), 8)]

    def positions(self, span_ids: Collection[bytes] | None = None) -> Positions:
        """Return the positions of some spans, or of all, in start order; those not in the trace are left out."""
        if span_ids is None:
            return np.arange(len(self))
        numbers = np.array([int.from_bytes(span_id) for span_id in span_ids], np.uint64)
        return np.flatnonzero(np.isin(self.spans["span_id"], numbers))

    def after(self, start: int, span_id: bytes) -> int:
        """Return the position of the first span that comes after a start and an id."""
        starts, ids = self.spans["start"], self.spans["span_id"]
        first, end = np.searchsorted(starts, start, "left"), np.searchsorted(starts, start, "right")
        return int(first + np.searchsorted(ids[first:end], np.uint64(int.from_bytes(span_id)), "right"))

    def critical_ids(self, among: Positions | slice) -> frozenset[bytes]:
        """Return the ids of those of some spans that are on the critical path."""
        positions = self.positions()[among]
        return frozenset(self.ids(positions[self.critical[positions]]))

    def depths(self) -> Positions:
        """Return how many spans are above each."""
        above, depths = _with_end(self.parents), np.append(np.ones(len(self), np.int64), 0)
        depths[:-1][self.parents == NONE] = 0
        while (above != len(self)).any():
            depths = depths + depths[above]
            above = above[above]
        return depths[:-1]

    def below(self, position: int) -> Self:
        """Return the tree of a span and all that is below it."""
        above = _with_end(self.parents)
        above[position] = position
        above = fixed_point(above)
        kept = np.flatnonzero(above[:-1] == position)
        moved = np.full(len(self) + 1, NONE, np.int64)
        moved[kept] = np.arange(len(kept))
        parents = moved[self.parents[kept]]
        parents[moved[position]] = NONE
        return type(self)(self.spans[kept], parents, self.critical[kept])


def critical_path(parents: Positions, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Flags:
    """Return which spans decided when the trace ended.

    From the end backwards (as in Zhang et al., "CRISP: Critical Path Analysis of Large-Scale Microservice
    Architectures", 2022): of a span's children the last to end is critical, then the last of those that ended before
    that one began, and so on; and likewise below each of them. A span that runs is not on it, and its children count as
    top-level. Time is O(n log n) for n spans, whatever their shape.
    """
    critical = np.zeros(len(parents), np.bool_)
    ended = np.flatnonzero(ends != RUNNING)
    if not len(ended):
        return critical
    parent = np.where((parents != NONE) & (ends[parents] != RUNNING), parents, NONE)[ended]
    order = np.lexsort((ends[ended], parent))  # stable: siblings with one end stay in start order
    span, parent = ended[order], parent[order]
    start, end = starts[span], ends[span]
    positions = np.arange(len(span))
    family = np.maximum.accumulate(np.where(np.append(True, parent[1:] != parent[:-1]), positions, 0))
    # The last sibling that ended before this one began: one search for all, by family and then by time.
    times = np.unique(np.concatenate((start, end)))
    key = family * len(times) + np.searchsorted(times, end)
    start_key = family * len(times) + np.searchsorted(times, start)
    before = np.minimum(np.searchsorted(key, start_key, "right") - 1, positions - 1)
    before = np.where(before >= family, before, NONE)
    last = np.searchsorted(parent, span, "right") - 1
    last = np.where(parent[last] == span, last, NONE)
    _walk(critical, span, before.tolist(), last.tolist(), int(np.searchsorted(parent, NONE, "right")) - 1)
    return critical


def fixed_point(above: Positions) -> Positions:
    """Follow each position to where it leads in the end: a position that leads to itself."""
    while True:
        further = above[above]
        if np.array_equal(further, above):
            return above
        above = further


def _walk(critical: Flags, span: Positions, before: list[int], last: list[int], top: int) -> None:
    seen, pending = bytearray(len(before)), [top]
    while pending:
        at = pending.pop()
        while at >= 0 and not seen[at]:
            seen[at] = True
            if last[at] != NONE:
                pending.append(last[at])
            at = before[at]
    critical[span[np.frombuffer(seen, np.bool_)]] = True


def _one_each(spans: NDArray[Any]) -> NDArray[Any]:
    _, from_the_end = np.unique(spans["span_id"][::-1], return_index=True)
    return spans if len(from_the_end) == len(spans) else spans[np.sort(len(spans) - 1 - from_the_end)]


def _parents(spans: NDArray[Any]) -> Positions:
    ids, parent_ids = spans["span_id"], spans["parent_id"]
    if not len(spans):
        return np.empty(0, np.int64)
    by_id = np.argsort(ids)
    at = np.minimum(np.searchsorted(ids[by_id], parent_ids), len(spans) - 1)
    parents = np.where((ids[by_id][at] == parent_ids) & (parent_ids != 0), by_id[at], NONE).astype(np.int64)
    # After as many steps as there are spans only those in circles have not come to the end, and each is where one has.
    above = _with_end(parents)
    for _ in range(len(spans).bit_length()):
        if (above == len(spans)).all():
            return parents
        above = above[above]
    parents[np.unique(above[above != len(spans)])] = NONE
    return parents


def _with_end(parents: Positions) -> Positions:
    """Return parents with one position more, which is its own parent and that of all who have none."""
    above = np.append(parents, len(parents))
    above[:-1][parents == NONE] = len(parents)
    return above
