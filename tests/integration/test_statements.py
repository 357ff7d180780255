"""Every statement that writes, in a `.sql` file, is one that Postgres takes by the schemas as they are migrated.

The files of the query service are parts of statements; the tests of its plans run those.
"""

from pathlib import Path

import asyncpg

from shared.storage.named_queries import is_named, load_queries
from shared.storage.postgres import SEARCH_PATH, load_sql

ROOT = Path(__file__).parents[2]
SCHEMAS = ("traces", "scores", "prompts", "experiments", "evaluator")


def search_path(path: Path) -> str:
    """The schemas that the service of the file connects with."""
    owner = path.relative_to(ROOT).parts[2]
    return f"{owner}, lodestream" if owner in SCHEMAS else SEARCH_PATH


def is_complete(statement: str) -> bool:
    """Whether it is sent as it is, and reads no table that exists during its transaction only."""
    return "{" not in statement.replace("'{}'", "") and "staged_" not in statement


def statements_of(path: Path) -> dict[str, str]:
    """The statements of a file, each with the name to report it by."""
    where = str(path.relative_to(ROOT))
    if not is_named(path):
        return {where: load_sql(path)}
    return {f"{where}: {name}": statement for name, statement in load_queries(path).items()}


async def test_every_statement_can_be_prepared(database: str) -> None:
    paths = [
        path
        for folder in ("services/write", "services/projections", "shared")
        for path in (ROOT / folder).rglob("*.sql")
    ]
    wrong: list[str] = []
    prepared: list[str] = []
    connection = await asyncpg.connect(database)
    try:
        for path in sorted(path for path in paths if "migrations" not in path.parts):
            await connection.execute(f"SET search_path = {search_path(path)}")
            for name, statement in statements_of(path).items():
                if not is_complete(statement):
                    continue
                try:
                    await connection.prepare(statement)
                    prepared.append(name)
                except asyncpg.PostgresError as error:
                    wrong.append(f"{name}: {error}")
    finally:
        await connection.close()
    assert not wrong
    assert len([name for name in prepared if "evaluator" in name]) > 30
