"""Rows as PostgreSQL's binary COPY format wants them, packed by hand: the hottest code of the projection.

A row is its number of fields, then each field as its length and its bytes (length -1: null), all big-endian. Dates
count days, timestamps microseconds, both from 2000-01-01. Each packer writes the columns in the order of its COLUMNS.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from struct import Struct

import orjson

from services.projections.traces.rows import BlockRow, SpanKey, SpanRow, TraceRow
from services.projections.traces.summary import summarise

SPAN_COLUMNS = (
    "start_day", "is_root", "type", "level", "start_at", "received_at", "input_tokens", "output_tokens", "total_tokens",
    "cost_picos", "sanitized", "block_partition", "block_offset", "block_index", "trace_id", "span_id",
    "project_id", "name", "status_message", "model", "provider", "prompt_name", "trace_name", "user_id", "session_id",
    "environment", "release", "version", "sdk", "input_preview", "output_preview",
    "parent_span_id", "end_at", "first_token_us", "prompt_version", "usage", "cost", "tags", "parts",
)  # fmt: skip
BLOCK_COLUMNS = (
    "received_day", "received_at", "partition", "offset", "compression", "span_count",
    "project_id", "sdk_name", "sdk_version", "otlp_request",
)  # fmt: skip
TRACE_COLUMNS = (
    "start_at", "last_start_at", "received_at", "last_received_at", "level", "span_count", "input_tokens",
    "output_tokens", "total_tokens", "cost_picos", "trace_id",
    "project_id", "end_at", "root_start_at", "root_span_id", "root_name", "root_trace_name", "root_user_id",
    "root_session_id", "root_environment", "root_release", "root_version", "root_status_message", "root_input_preview",
    "root_output_preview", "any_trace_name", "any_user_id", "any_session_id", "any_environment", "any_release",
    "any_version", "tags", "type_counts", "level_counts", "retrieval_busy", "generation_busy", "tool_busy",
    "child_busy",
)  # fmt: skip

EPOCH_US = 946_684_800_000_000
"""The year 2000 in µs since 1970."""
_EPOCH_DAY = 730_120
_DAY_US = 86_400_000_000
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"
_TEXT_OID, _INT8_OID, _INT8RANGE_BOUNDED = 25, 20, 0x02
_LENGTH = Struct("!i").pack
_INT4 = Struct("!ii").pack
_INT8 = Struct("!iq").pack
_ARRAY = Struct("!iiiii").pack
_RANGE = Struct("!iBiqiq").pack
_SPAN_FIXED = Struct("!h ii i? ih ih iq iq iq iq iq iq ih ii iq ii i16s i8s").pack
_TRACE_FIXED = Struct("!h iq iq iq iq ih iq iq iq iq iq i16s").pack
_BLOCK_FIXED = Struct("!h ii iq ii iq ih ii").pack


def copy_data(rows: Iterable[bytes]) -> bytearray:
    """The whole input of a COPY … WITH (FORMAT binary); no `bytes`, which asyncpg takes for the name of a file."""
    return bytearray().join((_HEADER, *rows, _TRAILER))


class _Texts(dict[str | None, bytes]):
    """Packed texts. Most come again and again (models, names, environments), so they are packed once."""

    def __missing__(self, value: str) -> bytes:
        packed = text(value)
        if len(packed) <= 64:
            if len(self) > 20_000:
                self.clear()
                self[None] = NULL
            self[value] = packed
        return packed


_texts = _Texts({None: NULL})


def pack_span(row: SpanRow) -> bytes:
    """A row of `spans`. Raises ValueError, OverflowError or struct.error for what no column takes."""
    first = row.parts[0]
    return b"".join((
        _SPAN_FIXED(
            len(SPAN_COLUMNS), 4, row.start_day.toordinal() - _EPOCH_DAY, 1, row.is_root, 2, row.type, 2, row.level,
            8, row.start_at_us - EPOCH_US, 8, first.received_at_us - EPOCH_US, 8, row.input_tokens,
            8, row.output_tokens, 8, row.total_tokens, 8, row.cost_picos, 2, row.sanitized,
            4, first.partition, 8, first.offset, 4, first.span_index, 16, row.trace_id, 8, row.span_id,
        ),
        _texts[row.project_id], _texts[row.name], _texts[row.status_message], _texts[row.model], _texts[row.provider],
        _texts[row.prompt_name], _texts[row.trace_name], _texts[row.user_id], _texts[row.session_id],
        _texts[row.environment], _texts[row.release], _texts[row.version], _texts[row.sdk],
        NULL if row.input_preview is None else text(row.input_preview),
        NULL if row.output_preview is None else text(row.output_preview),
        NULL if row.parent_span_id is None else data(row.parent_span_id),
        NULL if row.end_at_us is None else _INT8(8, row.end_at_us - EPOCH_US),
        NULL if row.first_token_us is None else _INT8(8, row.first_token_us),
        NULL if row.prompt_version is None else _INT4(4, row.prompt_version),
        NULL if row.usage is None else _json(row.usage),
        NULL if row.cost is None else _json(row.cost),
        NULL if row.tags is None else texts(row.tags),
        NULL if len(row.parts) == 1 else integers([number for part in row.parts for number in part]),
    ))  # fmt: skip


def pack_trace(row: TraceRow) -> bytes:
    """A row of `traces`."""
    return b"".join((
        _TRACE_FIXED(
            len(TRACE_COLUMNS), 8, row.start_at_us - EPOCH_US, 8, row.last_start_at_us - EPOCH_US,
            8, row.received_at_us - EPOCH_US, 8, row.last_received_at_us - EPOCH_US, 2, row.level, 8, row.span_count,
            8, row.input_tokens, 8, row.output_tokens, 8, row.total_tokens, 8, row.cost_picos, 16, row.trace_id,
        ),
        _texts[row.project_id],
        NULL if row.end_at_us is None else _INT8(8, row.end_at_us - EPOCH_US),
        NULL if row.root_start_at_us is None else _INT8(8, row.root_start_at_us - EPOCH_US),
        NULL if row.root_span_id is None else data(row.root_span_id),
        _texts[row.root_name], _texts[row.root_trace_name], _texts[row.root_user_id], _texts[row.root_session_id],
        _texts[row.root_environment], _texts[row.root_release], _texts[row.root_version],
        _texts[row.root_status_message],
        NULL if row.root_input_preview is None else text(row.root_input_preview),
        NULL if row.root_output_preview is None else text(row.root_output_preview),
        _texts[row.any_trace_name], _texts[row.any_user_id], _texts[row.any_session_id], _texts[row.any_environment],
        _texts[row.any_release], _texts[row.any_version],
        texts(row.tags), integers(row.type_counts), integers(row.level_counts),
        multirange(row.retrieval_busy), multirange(row.generation_busy), multirange(row.tool_busy),
        multirange(row.child_busy),
    ))  # fmt: skip


def pack_block(row: BlockRow) -> bytes:
    """A row of `span_blocks`."""
    received_at = microseconds(row.received_at) - EPOCH_US
    return b"".join((
        _BLOCK_FIXED(
            len(BLOCK_COLUMNS), 4, received_at // _DAY_US, 8, received_at, 4, row.partition, 8, row.offset,
            2, row.compression, 4, row.span_count,
        ),
        text(row.project_id), text(row.sdk_name), text(row.sdk_version), data(row.otlp_request),
    ))  # fmt: skip


def microseconds(moment: datetime) -> int:
    """µs since 1970, exactly."""
    since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def text(value: str) -> bytes:
    """A text field. Raises UnicodeEncodeError (a ValueError) for a lone surrogate."""
    encoded = value.encode()
    return _LENGTH(len(encoded)) + encoded


def data(value: bytes) -> bytes:
    """A bytea field."""
    return _LENGTH(len(value)) + value


def integers(values: Sequence[int]) -> bytes:
    """A bigint[] field."""
    if not values:
        return data(bytes(8) + _LENGTH(_INT8_OID))
    return data(_ARRAY(1, 0, _INT8_OID, len(values), 1) + b"".join([_INT8(8, value) for value in values]))


def texts(values: Sequence[str]) -> bytes:
    """A text[] field."""
    if not values:
        return data(bytes(8) + _LENGTH(_TEXT_OID))
    return data(_ARRAY(1, 0, _TEXT_OID, len(values), 1) + b"".join([text(value) for value in values]))


def multirange(ranges: Sequence[tuple[int, int]]) -> bytes:
    """An int8multirange field of half-open, non-empty ranges, in any order, overlapping or not."""
    return data(_LENGTH(len(ranges)) + b"".join([_RANGE(25, _INT8RANGE_BOUNDED, 8, a, 8, b) for a, b in ranges]))


def _json(value: dict[str, int]) -> bytes:
    encoded = orjson.dumps(value)
    return _LENGTH(len(encoded) + 1) + b"\x01" + encoded


# Rows before they are written


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
