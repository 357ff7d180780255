"""Every statement that writes, in a `.sql` file, is one that Postgres takes by the schemas as they are migrated.

The files of the query service are parts of statements; the tests of its plans run those.
"""

from pathlib import Path

import asyncpg

from shared.read_model.postgres import SEARCH_PATH, load_sql

ROOT = Path(__file__).parents[2]
SCHEMAS = ("traces", "scores", "prompts", "experiments", "evaluator")


def search_path(path: Path) -> str:
    """The schemas that the service of the file connects with."""
    owner = path.relative_to(ROOT).parts[2]
    return f"{owner}, lodestream" if owner in SCHEMAS else SEARCH_PATH


def is_complete(statement: str) -> bool:
    """Whether it is sent as it is, and reads no table that exists during its transaction only."""
    return "{" not in statement.replace("'{}'", "") and "staged_" not in statement


async def test_every_statement_can_be_prepared(database: str) -> None:
    paths = [
        path
        for folder in ("services/write", "services/projections", "shared")
        for path in (ROOT / folder).rglob("*.sql")
    ]
    statements = {path: load_sql(path) for path in sorted(paths) if "migrations" not in path.parts}
    complete = {path: statement for path, statement in statements.items() if is_complete(statement)}
    assert len([path for path in complete if "evaluator" in path.parts]) > 30
    wrong: list[str] = []
    connection = await asyncpg.connect(database)
    try:
        for path, statement in complete.items():
            await connection.execute(f"SET search_path = {search_path(path)}")
            try:
                await connection.prepare(statement)
            except asyncpg.PostgresError as error:
                wrong.append(f"{path.relative_to(ROOT)}: {error}")
    finally:
        await connection.close()
    assert not wrong
