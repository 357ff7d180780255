"""The schema beside the live one: the same migrations, the same days, its secondary indexes made when it is full."""

from collections.abc import Collection
from dataclasses import dataclass

import asyncpg

from shared.projection.rebuilding.names import TABLES_BY_PROJECTION, Generation
from shared.runtime.failpoints import failpoint
from shared.storage.migrate import grant_reads, run_steps

PARTITIONS_LOCK = 0x70617274  # "part": in a database one at a time makes or moves the partitions of tables


@dataclass(frozen=True, slots=True)
class Begun:
    """A rebuild that has been begun: by which code, and whether its tables have all their indexes."""

    code_version: str | None
    """None: it has been live before."""
    indexed: bool


async def find(connection: asyncpg.Connection, rebuilt: Generation) -> Begun | None:
    """The rebuild under way."""
    if not await exists(connection, rebuilt):
        return None
    if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{rebuilt.schema}.rebuild"):
        return Begun(None, indexed=True)
    row = await connection.fetchrow(f"SELECT code_version, deferred = '{{}}' AS indexed FROM {rebuilt.schema}.rebuild")
    return Begun(row["code_version"], row["indexed"])


async def make(
    connection: asyncpg.Connection,
    live: Generation,
    rebuilt: Generation,
    code_version: str,
    *,
    indexes_at_once: Collection[str],
) -> None:
    """Make it empty, all at once: the steps that the live one has gone through, then without most secondary indexes."""
    async with connection.transaction():
        await run_steps(connection, folder=live.schema, schema=rebuilt.schema)
        await grant_reads(connection, rebuilt.schema)
        indexes = await connection.fetch(_SECONDARY_INDEXES, rebuilt.schema, list(indexes_at_once))
        for index in indexes:
            await connection.execute(f"DROP INDEX {rebuilt.schema}.{index['name']}")
        await connection.execute(
            f"CREATE TABLE {rebuilt.schema}.rebuild"
            " (code_version text NOT NULL, deferred text[] NOT NULL, begun_at timestamptz NOT NULL DEFAULT now())"
        )
        await connection.execute(
            f"INSERT INTO {rebuilt.schema}.rebuild (code_version, deferred) VALUES ($1, $2)",
            code_version,
            [index["definition"] for index in indexes],
        )


async def make_indexes(connection: asyncpg.Connection, rebuilt: Generation) -> None:
    """Make the indexes that were put off, each for itself. Again makes those that are still missing."""
    while deferred := await connection.fetchval(f"SELECT deferred FROM {rebuilt.schema}.rebuild"):
        async with connection.transaction():
            await connection.execute(deferred[0])
            await connection.execute(f"UPDATE {rebuilt.schema}.rebuild SET deferred = $1", deferred[1:])
            await failpoint("rebuild.indexing")


async def make_days(connection: asyncpg.Connection, live: Generation, rebuilt: Generation) -> None:
    """Give it the partitions that the live one has. In a transaction."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", PARTITIONS_LOCK)
    theirs = await connection.fetch(_PARTITIONS, live.schema)
    ours = {row["name"] for row in await connection.fetch(_PARTITIONS, rebuilt.schema)}
    for row in theirs:
        if row["name"] in ours:
            continue
        parent, child = f"{rebuilt.schema}.{row['parent']}", f"{rebuilt.schema}.{row['name']}"
        await connection.execute(f"CREATE TABLE {child} (LIKE {parent} INCLUDING ALL)")
        await connection.execute(f"ALTER TABLE {parent} ATTACH PARTITION {child} {row['bound']}")


async def same_steps(connection: asyncpg.Connection, one: Generation, other: Generation) -> bool:
    """Whether both have gone through the same migrations."""
    steps = await connection.fetch("SELECT split_part(name, '/', 1) AS schema, name FROM lodestream.migrations")
    of = {
        generation.schema: {row["name"].partition("/")[2] for row in steps if row["schema"] == generation.schema}
        for generation in (one, other)
    }
    return of[one.schema] == of[other.schema]


async def exists(connection: asyncpg.Connection, generation: Generation) -> bool:
    """Whether it has a schema."""
    return bool(await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", generation.schema))


async def drop(connection: asyncpg.Connection, generation: Generation) -> bool:
    """Remove a generation, its positions and its dead letters; False when there is none.

    Table by table: a transaction can't hold the locks of many days at once.
    """
    there = await exists(connection, generation)
    for row in await connection.fetch(_PARTITIONS, generation.schema):
        await connection.execute(f"DROP TABLE {generation.schema}.{row['name']}")
    async with connection.transaction():
        await connection.execute(f"DROP SCHEMA IF EXISTS {generation.schema} CASCADE")
        await connection.execute(
            "DELETE FROM lodestream.migrations WHERE split_part(name, '/', 1) = $1", generation.schema
        )
        for table in TABLES_BY_PROJECTION:
            await connection.execute(f"DELETE FROM lodestream.{table} WHERE projection = $1", generation.projection)
    return there


_SECONDARY_INDEXES = """
-- The definition of a partitioned index says ON ONLY, which would leave out the partitions.
SELECT index.relname AS name, replace(pg_get_indexdef(index.oid), ' ON ONLY ', ' ON ') AS definition
FROM pg_index
JOIN pg_class AS index ON index.oid = pg_index.indexrelid
WHERE index.relnamespace = $1::text::regnamespace AND NOT pg_index.indisunique AND NOT index.relispartition
    AND index.relname <> ALL ($2::text[])
ORDER BY index.relname
"""
_PARTITIONS = """
SELECT parent.relname AS parent, child.relname AS name, pg_get_expr(child.relpartbound, child.oid) AS bound
FROM pg_inherits
JOIN pg_class AS child ON child.oid = pg_inherits.inhrelid AND child.relkind = 'r'
JOIN pg_class AS parent ON parent.oid = pg_inherits.inhparent
WHERE parent.relnamespace = to_regnamespace($1::text)
ORDER BY parent.relname, child.relname
"""
