"""Spans as the input of COPY: all that can be made of them before the fence is taken."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.projections.traces.folding.rows import SpanKey, SpanRow, TraceRow
from services.projections.traces.folding.summary import summarise
from services.projections.traces.storing.copy_format import copy_data, pack_span, pack_trace


@dataclass(frozen=True, slots=True)
class Packed:
    """Rows of `spans`, and what these add to the rows of `traces`."""

    spans: bytearray
    traces: bytearray


def pack(rows: Sequence[SpanRow]) -> Packed:
    """Spans and what they add to their traces. Raises what pack_span raises for what no column takes."""
    return Packed(pack_spans(rows), pack_traces(summarise(rows)))


def pack_spans(rows: Sequence[SpanRow]) -> bytearray:
    """In key order, so that writers of the same keys queue and never deadlock."""
    return copy_data([pack_span(row) for row in sorted(rows, key=key_of)])


def pack_traces(rows: Sequence[TraceRow]) -> bytearray:
    """In the order given."""
    return copy_data([pack_trace(row) for row in rows])


def key_of(row: SpanRow) -> SpanKey:
    """A span's identity, and the order in which rows are written."""
    return row.project_id, row.trace_id, row.span_id, row.start_day
