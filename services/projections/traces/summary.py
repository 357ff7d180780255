"""Span rows to trace summaries. What this adds up in memory, sql/upsert_traces.sql adds to what is stored."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from lodestream_proto.v1.trace_pb2 import (
    SPAN_TYPE_EMBEDDING,
    SPAN_TYPE_GENERATION,
    SPAN_TYPE_RETRIEVER,
    SPAN_TYPE_TOOL,
    Level,
    SpanType,
)

from services.projections.traces.rows import Busy, SpanRow, TraceRow

_RETRIEVAL = frozenset({SPAN_TYPE_RETRIEVER, SPAN_TYPE_EMBEDDING})
_GENERATION = frozenset({SPAN_TYPE_GENERATION})
_TOOL = frozenset({SPAN_TYPE_TOOL})
_TYPES, _LEVELS = len(SpanType.values()) - 1, len(Level.values()) - 1  # without UNSPECIFIED
_trace_of = attrgetter("project_id", "trace_id")
_OF_THE_ROOT = (
    "start_at_us", "span_id", "name", "trace_name", "user_id", "session_id", "environment", "release", "version",
    "status_message", "input_preview", "output_preview",
)  # fmt: skip
_age = attrgetter("start_at_us", "span_id")


def summarise(rows: Iterable[SpanRow]) -> list[TraceRow]:
    """One row for each trace of these spans, in key order. Each span must be there once."""
    in_order = sorted(rows, key=_trace_of)
    return [_summary(project_id, trace_id, list(its)) for (project_id, trace_id), its in groupby(in_order, _trace_of)]


def union(intervals: Iterable[tuple[int, int]]) -> Busy:
    """Intervals without overlaps and without empty ones, ascending."""
    merged: Busy = []
    for start, end in sorted(intervals):
        if end <= start:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _summary(project_id: str, trace_id: bytes, rows: Sequence[SpanRow]) -> TraceRow:
    root = min((row for row in rows if row.is_root), key=_age, default=None)
    return TraceRow(
        project_id=project_id,
        trace_id=trace_id,
        start_at_us=min(row.start_at_us for row in rows),
        end_at_us=max((row.end_at_us for row in rows if row.end_at_us is not None), default=None),
        last_start_at_us=max(row.start_at_us for row in rows),
        received_at_us=min(row.parts[0].received_at_us for row in rows),
        last_received_at_us=max(row.parts[-1].received_at_us for row in rows),
        **_root(root),
        any_trace_name=_least(row.trace_name for row in rows),
        any_user_id=_least(row.user_id for row in rows),
        any_session_id=_least(row.session_id for row in rows),
        any_environment=_least(row.environment for row in rows),
        any_release=_least(row.release for row in rows),
        any_version=_least(row.version for row in rows),
        tags=sorted({tag for row in rows for tag in row.tags or ()}),
        level=max(row.level for row in rows),
        span_count=len(rows),
        type_counts=_count((row.type for row in rows), _TYPES),
        level_counts=_count((row.level for row in rows), _LEVELS),
        input_tokens=sum(row.input_tokens for row in rows),
        output_tokens=sum(row.output_tokens for row in rows),
        total_tokens=sum(row.total_tokens for row in rows),
        cost_picos=sum(row.cost_picos for row in rows),
        retrieval_busy=_busy(rows, _RETRIEVAL),
        generation_busy=_busy(rows, _GENERATION),
        tool_busy=_busy(rows, _TOOL),
        child_busy=union((row.start_at_us, row.end_at_us) for row in rows if row.end_at_us and not row.is_root),
    )


def _root(root: SpanRow | None) -> dict[str, Any]:
    return {f"root_{name}": getattr(root, name, None) for name in _OF_THE_ROOT}


def _least(values: Iterable[str | None]) -> str | None:
    """By code points, as the column's collation orders them."""
    return min((value for value in values if value is not None), default=None)


def _count(numbers: Iterable[int], kinds: int) -> list[int]:
    counts = [0] * kinds
    for number in numbers:
        counts[number - 1] += 1
    return counts


def _busy(rows: Sequence[SpanRow], types: frozenset[int]) -> Busy:
    """A span that still runs adds nothing yet."""
    return union((row.start_at_us, row.end_at_us) for row in rows if row.type in types and row.end_at_us)
