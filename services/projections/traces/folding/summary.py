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
_of_root = attrgetter(
    "start_at_us", "span_id", "name", "trace_name", "user_id", "session_id", "environment", "release", "version",
    "status_message", "input_preview", "output_preview",
)  # fmt: skip
_Text = str | None
_OfRoot = tuple[int | None, bytes | None, _Text, _Text, _Text, _Text, _Text, _Text, _Text, _Text, _Text, _Text]
_NO_ROOT: _OfRoot = (None, None, None, None, None, None, None, None, None, None, None, None)
_of_any = attrgetter("trace_name", "user_id", "session_id", "environment", "release", "version")
_MAX_SUM = 2**63 - 1
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
    of_root: _OfRoot = _NO_ROOT if root is None else _of_root(root)
    trace_name, user_id, session_id, environment, release, version = map(_least, zip(*map(_of_any, rows), strict=True))
    # By position, for which see fold.py. The order is that of TraceRow.
    return TraceRow(
        project_id, trace_id, min(starts), end_us, max(starts),
        min([row.parts[0].received_at_us for row in rows]), max([row.parts[-1].received_at_us for row in rows]),
        *of_root, trace_name, user_id, session_id, environment, release, version,
        sorted(tags), max([row.level for row in rows]), len(rows), type_counts, level_counts,
        min(input_tokens, _MAX_SUM), min(output_tokens, _MAX_SUM), min(total_tokens, _MAX_SUM),
        min(cost_picos, _MAX_SUM),
        union(busy["retrieval"]), union(busy["generation"]), union(busy["tool"]), union(busy["child"]),
    )  # fmt: skip


def _least(values: Sequence[str | None]) -> str | None:
    """By code points, as the column's collation orders them."""
    told: set[Any] = set(values)
    told.discard(None)
    return min(told) if told else None
