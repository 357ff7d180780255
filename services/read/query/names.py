"""Which of a project's trace names contain a text: names are few where traces are many, so they are asked first."""

from pathlib import Path

import asyncpg

from services.read.query.filters import containing
from shared.read_model.postgres import load_sql

_MATCH_NAMES = load_sql(Path(__file__).parent / "sql" / "match_names.sql")
MOST_NAMES = 5_000
"""Beyond these a project's names are not looked through: some 8 µs each. The traces themselves are then."""


async def names_containing(pool: asyncpg.Pool, project_id: str, text: str) -> list[str] | None:
    """All names that contain the text, in any case; None when the project has too many names to tell.

    Raises RefusedError for a text that no name can contain.
    """
    row = await pool.fetchrow(_MATCH_NAMES, project_id, containing(text), MOST_NAMES + 1)
    return None if row["looked_at"] > MOST_NAMES else list(row["names"])
