"""The way to Postgres (LODESTREAM_POSTGRES), for what has no API: projects, keys, dead letters."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import asyncpg

from services.edge.cli import local_stack
from services.edge.cli.errors import CliError

Result = TypeVar("Result")

_PATIENCE = 10.0  # seconds for an answer of Postgres


def in_postgres(work: Callable[[asyncpg.Connection], Awaitable[Result]]) -> Result:
    """Run `work` on a connection of its own and return its result. Raises CliError when Postgres fails."""
    from shared.storage.postgres import DATABASE_ERRORS, SEARCH_PATH

    async def run() -> Result:
        connection = await asyncpg.connect(
            _dsn(), timeout=_PATIENCE, command_timeout=_PATIENCE, server_settings={"search_path": SEARCH_PATH}
        )
        try:
            return await work(connection)
        finally:
            await connection.close()

    try:
        return asyncio.run(run())
    except (*DATABASE_ERRORS, ValueError) as error:
        raise CliError(f"Postgres (LODESTREAM_POSTGRES): {error or type(error).__name__}") from None


def _dsn() -> str:
    """The DSN of the environment, else of a local stack, else the default."""
    # The settings of servers take as long to import as all else; most commands need none.
    from shared.runtime.settings import PostgresSettings

    settings = PostgresSettings()
    stack = None if "dsn" in settings.model_fields_set else local_stack.find(Path.cwd())
    return stack.environment.get("LODESTREAM_POSTGRES", settings.dsn) if stack else settings.dsn
