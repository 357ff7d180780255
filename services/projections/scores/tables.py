"""Rows into the tables, in the fence's transaction; the order in which events come makes no difference to them."""

from collections.abc import Sequence
from pathlib import Path

import asyncpg

from services.projections.scores.fold import first_tellings
from services.projections.scores.rows import ConfigRow, ScoreRow
from shared.storage.postgres import load_sql

NAME = "scores"
"""The projection's name in the positions, the dead letters and the metrics."""

_SQL = Path(__file__).parent / "sql"
_STAGE = load_sql(_SQL / "stage.sql")
_SUPERSEDE = load_sql(_SQL / "supersede.sql")
_KEEP_HISTORY = load_sql(_SQL / "keep_history.sql")
_DECIDE_ANEW = load_sql(_SQL / "decide_anew.sql")
_KEEP_CONFIGS = load_sql(_SQL / "keep_configs.sql")


async def prepare_connection(connection: asyncpg.Connection) -> None:
    """Make the tables that a connection stages rows in; for a pool's `init`."""
    await connection.execute(_STAGE)


async def write_scores(connection: asyncpg.Connection, rows: Sequence[ScoreRow]) -> None:
    """Write events of scores.

    The row of each score id in `scores` is locked first, in key order: writers of one id queue, never deadlock, and see
    all of its history.
    """
    first_rows = first_tellings(rows)
    await connection.copy_records_to_table("staged_scores", records=first_rows, columns=ScoreRow._fields)
    await connection.execute(_SUPERSEDE)
    new = {tuple(record) for record in await connection.fetch(_KEEP_HISTORY)}
    if again := sorted({(row.project_id, row.score_id) for row in first_rows if row.event not in new}):
        await connection.execute(_DECIDE_ANEW, *map(list, zip(*again, strict=True)))


async def write_configs(connection: asyncpg.Connection, rows: Sequence[ConfigRow]) -> None:
    """Write events of configs."""
    await connection.copy_records_to_table("staged_configs", records=first_tellings(rows), columns=ConfigRow._fields)
    await connection.execute(_KEEP_CONFIGS)
