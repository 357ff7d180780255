"""Postgres as reads see it: connections that can only SELECT, of two kinds."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import asyncpg
import structlog

from shared.runtime.settings import QuerySettings
from shared.storage.postgres import DATABASE_ERRORS, SEARCH_PATH, connect_pool

log = structlog.get_logger()

# A value that is rare and one that is frequent need different plans; half a millisecond for each call is well spent.
_SEARCH_SETTINGS = {"plan_cache_mode": "force_custom_plan"}
# A primary key finds its row the same way whatever its value; only a table that was empty at first must not be scanned.
_POINT_SETTINGS = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}


@dataclass(frozen=True, slots=True)
class Database:
    """Two pools of connections: a statement goes to the one that plans it as it needs to be planned."""

    search_pool: asyncpg.Pool
    """Statements whose best plan depends on their parameters: planned for each call."""
    point_pool: asyncpg.Pool
    """Statements that find rows by their primary key: planned once a connection, which is two thirds of what they cost.

    Only those. Where there are several indexes to choose from, or a list of keys is joined, a plan that was good for
    what there was at first may read all that a project has now.
    """

    @classmethod
    async def connect(cls, dsn: str, settings: QuerySettings) -> Self:
        """Connect, and wait until Postgres answers for the first time."""
        return cls(await _pool(dsn, settings, _SEARCH_SETTINGS), await _pool(dsn, settings, _POINT_SETTINGS))

    def terminate(self) -> None:
        """Close all connections at once."""
        self.search_pool.terminate()
        self.point_pool.terminate()


@asynccontextmanager
async def connect_snapshot(dsn: str, settings: QuerySettings) -> AsyncIterator[asyncpg.Connection]:
    """Connect for one read whose statements all see the same moment."""
    connection = await asyncpg.connect(
        dsn,
        timeout=5,
        command_timeout=settings.statement_seconds + 2,
        server_settings={
            "application_name": "lodestream-query",
            "search_path": SEARCH_PATH,
            "timezone": "UTC",
            **_session_settings(settings, _SEARCH_SETTINGS),
        },
    )
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield connection
    finally:
        connection.terminate()


def _session_settings(settings: QuerySettings, planning: Mapping[str, str]) -> dict[str, str]:
    return {
        "statement_timeout": str(round(settings.statement_seconds * 1000)),
        "default_transaction_read_only": "on",
        "jit": "off",
        **planning,
    }


async def _pool(dsn: str, settings: QuerySettings, planning: Mapping[str, str]) -> asyncpg.Pool:
    while True:
        try:
            return await connect_pool(
                dsn,
                application="query",
                max_size=settings.connections,
                command_timeout=settings.statement_seconds + 2,
                reset=_keep_session,
                server_settings=_session_settings(settings, planning),
            )
        except DATABASE_ERRORS as error:
            if isinstance(error, asyncpg.exceptions.ClientConfigurationError):
                raise
            log.warning("waiting for Postgres", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(1)


async def _keep_session(_connection: asyncpg.Connection) -> None:
    """Leave the session as it is between calls: single statements don't change it, and a reset costs a roundtrip."""
