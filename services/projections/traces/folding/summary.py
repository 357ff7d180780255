"""Span rows to trace summaries. What this adds up in memory, sql/upsert_traces.sql adds to what is stored."""

from collections.abc import Iterable, Sequence
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

from services.projections.traces.folding.rows import Busy, SpanRow, TraceRow

_KINDS: dict[int, str] = {
    SPAN_TYPE_RETRIEVER: "retrieval",
    SPAN_TYPE_EMBEDDING: "retrieval",
    SPAN_TYPE_GENERATION: "generation",
    SPAN_TYPE_TOOL: "tool",
}
_TYPES, _LEVELS = len(SpanType.values()) - 1, len(Level.values()) - 1  # without UNSPECIFIED
_OF_THE_ROOT = tuple(
    (f"root_{name}", name)
    for name in (
        "start_at_us", "span_id", "name", "trace_name", "user_id", "session_id", "environment", "release", "version",
        "status_message", "input_preview", "output_preview",
    )
)  # fmt: skip
_age = attrgetter("start_at_us", "span_id")


def summarise(rows: Iterable[SpanRow]) -> list[TraceRow]:
    """One row for each trace of these spans, in key order. Each span must be there once."""
    by_trace: dict[tuple[str, bytes], list[SpanRow]] = {}
    for row in rows:
        by_trace.setdefault((row.project_id, row.trace_id), []).append(row)
    return [_summary(*key, by_trace[key]) for key in sorted(by_trace)]


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
    """One walk over the spans: their number is small, and a walk for each column costs three times as much."""
    root: SpanRow | None = None
    end_us: int | None = None
    tags: set[str] = set()
    type_counts, level_counts = [0] * _TYPES, [0] * _LEVELS
    input_tokens = output_tokens = total_tokens = cost_picos = 0
    busy: dict[str, Busy] = {"retrieval": [], "generation": [], "tool": [], "child": []}
    for row in rows:
        type_counts[row.type - 1] += 1
        level_counts[row.level - 1] += 1
        input_tokens += row.input_tokens
        output_tokens += row.output_tokens
        total_tokens += row.total_tokens
        cost_picos += row.cost_picos
        if row.tags:
            tags.update(row.tags)
        if row.is_root and (root is None or _age(row) < _age(root)):
            root = row
        if (its_end := row.end_at_us) is not None:  # a span that still runs adds nothing yet
            end_us = its_end if end_us is None or its_end > end_us else end_us
            if (kind := _KINDS.get(row.type)) is not None:
                busy[kind].append((row.start_at_us, its_end))
            if not row.is_root:
                busy["child"].append((row.start_at_us, its_end))
    starts = [row.start_at_us for row in rows]
    return TraceRow(
        project_id=project_id,
        trace_id=trace_id,
        start_at_us=min(starts),
        end_at_us=end_us,
        last_start_at_us=max(starts),
        received_at_us=min([row.parts[0].received_at_us for row in rows]),
        last_received_at_us=max([row.parts[-1].received_at_us for row in rows]),
        **_root(root),
        any_trace_name=_least([row.trace_name for row in rows]),
        any_user_id=_least([row.user_id for row in rows]),
        any_session_id=_least([row.session_id for row in rows]),
        any_environment=_least([row.environment for row in rows]),
        any_release=_least([row.release for row in rows]),
        any_version=_least([row.version for row in rows]),
        tags=sorted(tags),
        level=max([row.level for row in rows]),
        span_count=len(rows),
        type_counts=type_counts,
        level_counts=level_counts,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=total_tokens,
        cost_picos=cost_picos,
        retrieval_busy=union(busy["retrieval"]),
        generation_busy=union(busy["generation"]),
        tool_busy=union(busy["tool"]),
        child_busy=union(busy["child"]),
    )


def _root(root: SpanRow | None) -> dict[str, Any]:
    return {column: getattr(root, name, None) for column, name in _OF_THE_ROOT}


def _least(values: Sequence[str | None]) -> str | None:
    """By code points, as the column's collation orders them."""
    told = {value for value in values if value is not None}
    return min(told) if told else None
