"""Statistics at once: a table that fills for the first time is analysed within seconds, not when autovacuum comes by.

Until then Postgres knows nothing of a table, takes any of its indexes for as good as another, and whoever joins a run
of ten thousand items with its dataset reads all of one for each row of the other.
"""

import asyncio

import asyncpg
import structlog

from shared.storage.postgres import DATABASE_ERRORS

log = structlog.get_logger()

_LOOK_SECONDS = 1.0
_GROWN = """
SELECT format('%I.%I', $1::text, relname) AS name
FROM pg_class
WHERE
    relnamespace = $1::text::regnamespace AND relkind = 'r'
    AND pg_relation_size(oid) > 2 * greatest(relpages, 4) * current_setting('block_size')::bigint
ORDER BY relname
"""


async def keep_analyzed(pool: asyncpg.Pool, schema: str) -> None:
    """Analyse what grows in a schema, until cancelled. A server that is away is no reason to stop."""
    while True:
        try:
            async with pool.acquire() as connection:
                await analyze_grown(connection, schema)
        except DATABASE_ERRORS as error:
            log.warning("tables can't be analysed", schema=schema, error=f"{type(error).__name__}: {error}")
        await asyncio.sleep(_LOOK_SECONDS)


async def analyze_grown(connection: asyncpg.Connection, schema: str) -> list[str]:
    """Analyse the tables that have doubled since they were analysed last, and return their names.

    Of several processes that come at the same time one does it.
    """
    names = [row["name"] for row in await connection.fetch(_GROWN, schema)]
    for name in names:
        await connection.execute(f"ANALYZE (SKIP_LOCKED) {name}")
    return names
