"""The critical path of a trace: the spans that decided when it ended. Pure.

From the end backwards (as in Zhang et al., "CRISP: Critical Path Analysis of Large-Scale Microservice Architectures",
2022): of a span's children the last to end is critical, then the last of those that ended before that one began, and so
on; and likewise below each of them.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Node:
    """What the path depends on. A span without an end is not on it."""

    span_id: bytes
    parent_span_id: bytes | None
    start: datetime
    end: datetime | None


def critical_path(nodes: Iterable[Node]) -> frozenset[bytes]:
    """The ids of the critical spans. Children of absent parents count as top-level; cycles are left out."""
    ended = {node.span_id: node for node in nodes if node.end is not None}
    children: dict[bytes | None, list[Node]] = defaultdict(list)
    for node in ended.values():
        parent = node.parent_span_id if node.parent_span_id in ended and node.parent_span_id != node.span_id else None
        children[parent].append(node)
    critical: set[bytes] = set()
    open_levels = [children[None]]
    while open_levels:
        for node in _chain(open_levels.pop()):
            if node.span_id not in critical:
                critical.add(node.span_id)
                open_levels.append(children[node.span_id])
    return frozenset(critical)


def _chain(siblings: list[Node]) -> Iterable[Node]:
    before: datetime | None = None
    for node in sorted(siblings, key=lambda node: (node.end, node.start, node.span_id), reverse=True):
        if before is None or (node.end is not None and node.end <= before):
            yield node
            before = node.start
