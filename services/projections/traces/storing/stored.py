"""Rows as the tables give them back."""

from typing import Any

import asyncpg
import orjson

from services.projections.traces.folding.rows import BlockRow, Part, SpanRow

_SAME = tuple(name for name in SpanRow.__slots__ if name not in {"usage", "cost", "parts"})


def span_row(record: asyncpg.Record) -> SpanRow:
    """A span, from read_spans.sql or read_told.sql."""
    same: dict[str, Any] = {name: record[name] for name in _SAME}
    return SpanRow(**same, usage=_json(record["usage"]), cost=_json(record["cost"]), parts=parts_of(record))


def parts_of(record: asyncpg.Record) -> tuple[Part, ...]:
    """The tellings of a span, from the same."""
    if numbers := record["parts"]:
        return tuple(Part(*numbers[n : n + 4]) for n in range(0, len(numbers), 4))
    return (Part(record["received_at_us"], record["block_partition"], record["block_offset"], record["block_index"]),)


def block_row(record: asyncpg.Record) -> BlockRow:
    """A record, from read_blocks.sql."""
    return BlockRow(**dict(record))


def _json(value: str | None) -> dict[str, int] | None:
    return None if value is None else orjson.loads(value)
