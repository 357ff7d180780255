"""Rows into the tables, inside the fence's transaction: copied when they are new, merged when they are not."""

from collections.abc import Sequence
from pathlib import Path

import asyncpg

from services.projections.traces.copy_format import (
    BLOCK_COLUMNS,
    SPAN_COLUMNS,
    TRACE_COLUMNS,
    copy_data,
    pack_block,
)
from services.projections.traces.rows import BlockRow
from shared.storage.postgres import load_sql

NAME = "traces"
"""The projection's name in the positions, the dead letters and the metrics."""

SQL = Path(__file__).parent / "sql"
_UPSERT_TRACES = load_sql(SQL / "upsert_traces.sql")


async def prepare_connection(connection: asyncpg.Connection) -> None:
    """Make the table that a connection stages summaries in; for a pool's `init`."""
    await connection.execute(load_sql(SQL / "stage.sql"))


async def copy_blocks(connection: asyncpg.Connection, blocks: Sequence[BlockRow]) -> None:
    """Append records to span_blocks."""
    await _copy(connection, "span_blocks", BLOCK_COLUMNS, copy_data([pack_block(block) for block in blocks]))


async def copy_spans(connection: asyncpg.Connection, spans: bytearray, *, table: str = "spans") -> None:
    """Append packed rows to spans (or the like)."""
    await _copy(connection, table, SPAN_COLUMNS, spans)


async def copy_traces(connection: asyncpg.Connection, traces: bytearray, *, table: str = "traces") -> None:
    """Append packed rows to traces (or the like)."""
    await _copy(connection, table, TRACE_COLUMNS, traces)


async def add_to_traces(connection: asyncpg.Connection, traces: bytearray) -> None:
    """Add what new spans come to to the summaries of their traces, and lock these until the commit."""
    await copy_traces(connection, traces, table="staged_traces")
    await execute_prepared(connection, _UPSERT_TRACES)


async def execute_prepared(connection: asyncpg.Connection, statement: str) -> None:
    """Run a statement without parameters that is planned once for a connection; `execute` plans it every time."""
    await connection.fetch(statement)


async def _copy(connection: asyncpg.Connection, table: str, columns: Sequence[str], packed: bytearray) -> None:
    await connection.copy_to_table(table, source=packed, columns=columns, format="binary")
