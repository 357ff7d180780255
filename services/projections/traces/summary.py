"""Span rows to trace summaries. What this adds up in memory, sql/upsert_traces.sql adds to what is stored.

A summary has a bounded size, whatever its trace is: of tags it keeps the first hundred, and of a trace with very many
spans it keeps busy times by a grain, which grows with the number of spans and the time they span, and never shrinks
with either. Rounding to a coarse grain at once or by way of finer ones is the same, so no order makes a difference.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
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
MAX_TAGS = 100
"""Of a trace, the first by code points."""
EXACT_SPANS = 1_000
"""A trace of so many spans has exact busy times."""
_GRAINS_BITS = 11  # a longer one is divided into 2,048 grains at most, so that it has at most 1,024 intervals
_Text = str | None
_OfRoot = tuple[int | None, bytes | None, _Text, _Text, _Text, _Text, _Text, _Text, _Text, _Text, _Text, _Text]
_NO_ROOT: _OfRoot = (None, None, None, None, None, None, None, None, None, None, None, None)
_of_any = attrgetter("trace_name", "user_id", "session_id", "environment", "release", "version")
_MAX_SUM = 2**63 - 1
_age = attrgetter("start_at_us", "span_id")
_root_age = attrgetter("root_start_at_us", "root_span_id")
_ANY = ("any_trace_name", "any_user_id", "any_session_id", "any_environment", "any_release", "any_version")
_SUMS = ("input_tokens", "output_tokens", "total_tokens", "cost_picos")
_BUSY = ("retrieval_busy", "generation_busy", "tool_busy", "child_busy")


def summarise(rows: Iterable[SpanRow]) -> list[TraceRow]:
    """One row for each trace of these spans, in key order. Each span must be there once."""
    by_trace: dict[tuple[str, bytes], list[SpanRow]] = {}
    for row in rows:
        by_trace.setdefault((row.project_id, row.trace_id), []).append(row)
    return [_summary(*key, by_trace[key]) for key in sorted(by_trace)]


def grain_bits(span_count: int, start_us: int, end_us: int | None) -> int:
    """The grain of a trace's busy times, in bits of a microsecond: 0, they are exact; 20, about a second."""
    if span_count <= EXACT_SPANS or end_us is None or end_us <= start_us:
        return 0
    return ((end_us - start_us) >> _GRAINS_BITS).bit_length()


def coarse(busy: Busy, bits: int) -> Busy:
    """Intervals with their ends moved outwards to multiples of 2^bits."""
    if not bits:
        return busy
    return union([(start >> bits << bits, -(-end >> bits) << bits) for start, end in busy])


def add(one: TraceRow, more: TraceRow) -> TraceRow:
    """What two parts of a trace come to. Of two roots that are the same span `more` has the newer word."""
    end_us = max((end for end in (one.end_at_us, more.end_at_us) if end is not None), default=None)
    start_us, span_count = min(one.start_at_us, more.start_at_us), one.span_count + more.span_count
    bits = grain_bits(span_count, start_us, end_us)
    first = one if more.root_span_id is None or (one.root_span_id and _root_age(one) < _root_age(more)) else more
    joined: dict[str, Any] = {
        **{name: _least((getattr(one, name), getattr(more, name))) for name in _ANY},
        **{name: min(getattr(one, name) + getattr(more, name), _MAX_SUM) for name in _SUMS},
        **{name: coarse(union([*getattr(one, name), *getattr(more, name)]), bits) for name in _BUSY},
    }
    return replace(
        first,  # all of the root's
        start_at_us=start_us,
        end_at_us=end_us,
        last_start_at_us=max(one.last_start_at_us, more.last_start_at_us),
        received_at_us=min(one.received_at_us, more.received_at_us),
        last_received_at_us=max(one.last_received_at_us, more.last_received_at_us),
        tags=sorted({*one.tags, *more.tags})[:MAX_TAGS],
        level=max(one.level, more.level),
        span_count=span_count,
        type_counts=[a + b for a, b in zip(one.type_counts, more.type_counts, strict=True)],
        level_counts=[a + b for a, b in zip(one.level_counts, more.level_counts, strict=True)],
        **joined,
    )


def change(old: SpanRow, new: SpanRow) -> TraceRow | None:
    """What a summary gains when a span that it counts becomes another row; None: it loses something too.

    As a rule a span gains: an end, attributes, a higher level. So the other spans of its trace need not be read.
    """
    if _loses(old, new):
        return None
    gained = _summary(new.project_id, new.trace_id, [new])
    for counts, before in ((gained.type_counts, old.type), (gained.level_counts, old.level)):
        counts[before - 1] -= 1
    gained.span_count = 0
    for name in _SUMS:
        setattr(gained, name, getattr(new, name) - getattr(old, name))
    return gained


def _loses(old: SpanRow, new: SpanRow) -> bool:
    if new.start_at_us != old.start_at_us or new.level < old.level or (old.is_root and not new.is_root):
        return True
    if any(
        getattr(new, name) < getattr(old, name) for name in _SUMS
    ):  # a sum that has come to its bound can't be reduced
        return True
    if new.parts[0].received_at_us > old.parts[0].received_at_us:
        return True
    if new.parts[-1].received_at_us < old.parts[-1].received_at_us:
        return True
    if old.end_at_us is not None:  # it counts as busy
        if new.end_at_us is None or new.end_at_us < old.end_at_us:
            return True
        if (kind := _KINDS.get(old.type)) is not None and kind != _KINDS.get(new.type):
            return True
        if new.is_root and not old.is_root:
            return True
    if not set(old.tags or ()) <= set(new.tags or ()):
        return True
    return any(was is not None and was != now for was, now in zip(_of_any(old), _of_any(new), strict=True))


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
        if (row_end_us := row.end_at_us) is not None:  # a span that still runs adds nothing yet
            end_us = row_end_us if end_us is None or row_end_us > end_us else end_us
            if (kind := _KINDS.get(row.type)) is not None:
                busy[kind].append((row.start_at_us, row_end_us))
            if not row.is_root:
                busy["child"].append((row.start_at_us, row_end_us))
    starts = [row.start_at_us for row in rows]
    of_root: _OfRoot = _NO_ROOT if root is None else _of_root(root)
    trace_name, user_id, session_id, environment, release, version = map(_least, zip(*map(_of_any, rows), strict=True))
    start_us = min(starts)
    bits = grain_bits(len(rows), start_us, end_us)
    # By position, for which see fold.py. The order is that of TraceRow.
    return TraceRow(
        project_id, trace_id, start_us, end_us, max(starts),
        min([row.parts[0].received_at_us for row in rows]), max([row.parts[-1].received_at_us for row in rows]),
        *of_root, trace_name, user_id, session_id, environment, release, version,
        sorted(tags)[:MAX_TAGS], max([row.level for row in rows]), len(rows), type_counts, level_counts,
        min(input_tokens, _MAX_SUM), min(output_tokens, _MAX_SUM), min(total_tokens, _MAX_SUM),
        min(cost_picos, _MAX_SUM),
        *(coarse(union(busy[kind]), bits) for kind in ("retrieval", "generation", "tool", "child")),
    )  # fmt: skip


def _least(values: Sequence[str | None]) -> str | None:
    """By code points, as the column's collation orders them."""
    present: set[Any] = set(values)
    present.discard(None)
    return min(present) if present else None
