"""Rows into the tables, inside the fence's transaction: copied when they are new, merged when they are not."""

from collections.abc import Sequence
from pathlib import Path

import asyncpg

from services.projections.traces.folding.rows import BlockRow, SpanKey, SpanRow, TraceRow
from services.projections.traces.folding.summary import summarise
from services.projections.traces.storing.copy_format import (
    BLOCK_COLUMNS,
    SPAN_COLUMNS,
    TRACE_COLUMNS,
    copy_data,
    pack_block,
    pack_span,
    pack_trace,
)
from shared.read_model.postgres import load_sql

NAME = "traces"
"""The projection's name in the positions, the dead letters and the metrics."""

SQL = Path(__file__).parent / "sql"
_UPSERT_TRACES = load_sql(SQL / "upsert_traces.sql")


async def prepare_connection(connection: asyncpg.Connection) -> None:
    """Make the tables that a connection stages rows in; for a pool's `init`."""
    await connection.execute(load_sql(SQL / "stage.sql"))


async def copy_blocks(connection: asyncpg.Connection, blocks: Sequence[BlockRow]) -> None:
    """Append records to span_blocks."""
    await _copy(connection, "span_blocks", BLOCK_COLUMNS, [pack_block(block) for block in blocks])


async def copy_spans(connection: asyncpg.Connection, rows: Sequence[SpanRow], *, table: str = "spans") -> None:
    """Append rows to spans (or the like), in key order, so that writers of the same keys queue and never deadlock."""
    await _copy(connection, table, SPAN_COLUMNS, [pack_span(row) for row in sorted(rows, key=key_of)])


async def copy_traces(connection: asyncpg.Connection, rows: Sequence[TraceRow], *, table: str = "traces") -> None:
    """Append rows to traces (or the like)."""
    await _copy(connection, table, TRACE_COLUMNS, [pack_trace(row) for row in rows])


async def add_to_traces(connection: asyncpg.Connection, rows: Sequence[SpanRow]) -> None:
    """Add new spans to the summaries of their traces, and lock these until the commit."""
    await copy_traces(connection, summarise(rows), table="staged_traces")
    await connection.execute(_UPSERT_TRACES)


async def _copy(connection: asyncpg.Connection, table: str, columns: Sequence[str], packed: Sequence[bytes]) -> None:
    await connection.copy_to_table(table, source=copy_data(packed), columns=columns, format="binary")


def key_of(row: SpanRow) -> SpanKey:
    """A span's identity, and the order in which rows are written."""
    return row.project_id, row.trace_id, row.span_id, row.start_day
