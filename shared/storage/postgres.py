"""Connections to Postgres, and the `.sql` files beside the code that runs them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import asyncpg

from shared.event_log.projections import PROJECTIONS
from shared.runtime.refusal import UnavailableError

SEARCH_PATH = ", ".join([*(projection.name for projection in PROJECTIONS), "lodestream"])
"""The schemas of all read models, and the one that they share."""
DATABASE_ERRORS = (
    OSError,  # TimeoutError is one
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that breaks in mid-query: "cannot switch to state …"
)
"""What a call may raise that never reached the database, or that it refused."""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Refuse a call while the database does not answer what is read here; `what` begins the reason, in the plural.

    Raises UnavailableError.
    """
    try:
        yield
    except DATABASE_ERRORS as error:
        raise UnavailableError(f"{what} can't be read: the database does not answer", retry_seconds=5) from error


async def connect_pool(
    dsn: str,
    *,
    application: str,
    search_path: str = SEARCH_PATH,
    min_size: int = 1,
    max_size: int = 4,
    **options: Any,
) -> asyncpg.Pool:
    """A pool whose every call ends: bounded waits to connect and to answer, so that a frozen server costs seconds."""
    server_settings = {
        "application_name": f"lodestream-{application}",
        "search_path": search_path,
        "timezone": "UTC",
        **options.pop("server_settings", {}),
    }
    create = partial(
        asyncpg.create_pool,
        dsn,
        min_size=min_size,
        max_size=max_size,
        timeout=5,
        command_timeout=options.pop("command_timeout", 30),
        **options,
    )
    try:
        return await create(server_settings=server_settings)
    except asyncpg.UndefinedObjectError:
        if server_settings.pop("transaction_timeout", None) is None:
            raise
        return await create(server_settings=server_settings)  # Postgres before 17 knows no such limit


@cache
def load_sql(path: Path) -> str:
    """The statement in a .sql file."""
    return path.read_text(encoding="utf-8")
