"""Brings a database to this version's schemas: `python -m shared.storage.migrate`. Safe to run by several at once.

A folder under `migrations/` is a schema, a file in it one step, named NNNN_{pre|post}_what.sql: `pre` steps run before
the new code, `post` steps after the old code is gone. What has run is remembered by name in `lodestream.migrations`.
"""

import argparse
import asyncio
import random
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from shared.runtime.settings import PostgresSettings

READER_ROLE, GATEWAY_ROLE = "lodestream_reader", "lodestream_gateway"
"""Roles of processes that write no read model: the query service's selects from all tables, the gateway's from some."""
GATEWAY_TABLES = (
    "lodestream.api_keys", "lodestream.providers", "lodestream.provider_grants", "lodestream.spending_caps",
    "lodestream.spending", "experiments.datasets", "experiments.dataset_descriptions", "experiments.dataset_changes",
    "experiments.dataset_items", "experiments.experiment_runs", "prompts.prompts", "prompts.prompt_labels",
    "prompts.prompt_versions", "scores.score_configs",
)  # fmt: skip
"""What writes are checked against."""
_MIGRATIONS = Path(__file__).parent / "migrations"
_SCHEMAS = ("lodestream", *sorted(folder.name for folder in _MIGRATIONS.iterdir() if folder.name != "lodestream"))
_LOCK = 0x6C6F6465  # "lode": one migration at a time in a database
_ATTEMPTS = 20
_LOCK_TIMEOUT = "30s"  # what a step may wait for a table others use


def dsn_of_role(dsn: str, role: str) -> str:
    """`dsn` with one of the roles made here instead of the owner. Its password is the owner's."""
    parts = urlsplit(dsn)
    password = f":{quote(parts.password, safe='')}" if parts.password else ""
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{role}{password}@{host}"))


async def migrate(dsn: str, *, phase: str = "all") -> list[str]:
    """Run what has not run yet (`phase`: "pre", "post" or "all") and return the names. Each step is one transaction."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(_PREPARE)
        done = {row["name"] for row in await connection.fetch("SELECT name FROM lodestream.migrations")}
        ran = []
        for schema in _SCHEMAS:
            for step in sorted((_MIGRATIONS / schema).glob("*.sql")):
                name = f"{schema}/{step.stem}"
                if name in done or (phase != "all" and step.stem.split("_")[1] != phase):
                    continue
                await _run(connection, schema, name, step.read_text(encoding="utf-8"))
                ran.append(name)
        for role in (READER_ROLE, GATEWAY_ROLE):
            await _make_role(connection, role, password=urlsplit(dsn).password)
        async with connection.transaction():
            for schema in _SCHEMAS:
                await grant_reads(connection, schema)
            await _grant_gateway(connection)
        return ran
    finally:
        await connection.close()


_PREPARE = """
CREATE SCHEMA IF NOT EXISTS lodestream;
CREATE TABLE IF NOT EXISTS lodestream.migrations (name text PRIMARY KEY, ran_at timestamptz NOT NULL DEFAULT now());
"""


async def _run(connection: asyncpg.Connection, schema: str, name: str, step: str) -> None:
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        await connection.execute(f"SET LOCAL search_path = {schema}")
        await connection.execute(step)
        await connection.execute("INSERT INTO lodestream.migrations (name) VALUES ($1)", name)


async def _make_role(connection: asyncpg.Connection, role: str, *, password: str | None) -> None:
    """The role belongs to the whole server, so the migration of another database may be making it too."""
    for attempt in range(_ATTEMPTS):
        try:
            async with connection.transaction():
                if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
                    await connection.execute(f"CREATE ROLE {role} LOGIN")
                if password:
                    literal = await connection.fetchval("SELECT quote_literal($1::text)", password)
                    await connection.execute(f"ALTER ROLE {role} PASSWORD {literal}")
        except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError, asyncpg.InternalServerError):
            # The last one is Postgres' "tuple concurrently updated".
            if attempt == _ATTEMPTS - 1:
                raise
            await asyncio.sleep(random.uniform(0, 0.1))  # noqa: S311 - jitter, no secret
        else:
            return


async def grant_reads(connection: asyncpg.Connection, schema: str) -> None:
    """Let the reader's role select from all tables of a schema, and from those that will be made there."""
    await connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {READER_ROLE}")
    await connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {READER_ROLE}")
    await connection.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {READER_ROLE}")


async def _grant_gateway(connection: asyncpg.Connection) -> None:
    for table in GATEWAY_TABLES:
        if await connection.fetchval("SELECT to_regclass($1)", table):
            await connection.execute(f"GRANT USAGE ON SCHEMA {table.partition('.')[0]} TO {GATEWAY_ROLE}")
            await connection.execute(f"GRANT SELECT ON {table} TO {GATEWAY_ROLE}")


async def run_steps(connection: asyncpg.Connection, *, folder: str, schema: str) -> None:
    """Take another schema through the steps that the one named like the folder has gone through."""
    done = {row["name"] for row in await connection.fetch("SELECT name FROM lodestream.migrations")}
    for step in sorted((_MIGRATIONS / folder).glob("*.sql")):
        if f"{folder}/{step.stem}" in done and f"{schema}/{step.stem}" not in done:
            await _run(connection, schema, f"{schema}/{step.stem}", step.read_text(encoding="utf-8"))


def main() -> None:
    """Migrate the database named by LODESTREAM_POSTGRES and say what ran."""
    parser = argparse.ArgumentParser(prog="python -m shared.storage.migrate", description=main.__doc__)
    parser.add_argument("--phase", choices=["pre", "post", "all"], default="all")
    ran = asyncio.run(migrate(PostgresSettings().dsn, phase=parser.parse_args().phase))
    print(f"ran {', '.join(ran)}" if ran else "the database is up to date")  # noqa: T201


if __name__ == "__main__":
    main()
