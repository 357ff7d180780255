"""The tables' partitions: one a UTC day, made ahead, and one for everything long before the first day."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

import asyncpg
import structlog

from shared.projection.rebuilding.schema import PARTITIONS_LOCK

log = structlog.get_logger()

AHEAD = timedelta(days=3)
BEHIND = timedelta(days=7)
_MAKE_AHEAD_SECONDS, _RETRY_SECONDS = 3_600, 10
_TABLES = ("spans", "span_blocks")
_NAME = "%Y%m%d"


class Partitions:
    """Knows which days have partitions, and makes those that are missing."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._known: dict[str, set[date]] = {}
        self._floor: dict[str, date] = {}

    async def keep_ahead(self) -> None:
        """Make partitions ahead for ever; without the database later."""
        while True:
            try:
                await self.make_ahead(datetime.now(UTC).date())
            except Exception as error:
                log.warning("could not make partitions ahead", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                await asyncio.sleep(_MAKE_AHEAD_SECONDS)

    async def make_ahead(self, today: date) -> None:
        """Make today's partitions and those of the next days."""
        days = [today + timedelta(days=n) for n in range(AHEAD.days + 1)]
        await self.ensure(start_days=days, received_days=days)

    async def ensure(self, *, start_days: Iterable[date], received_days: Iterable[date]) -> bool:
        """Make what a batch needs, and tell whether any was missing. A look-up in memory when all is there."""
        received = set(received_days)
        if not received:
            return False
        latest = max(received) + AHEAD
        wanted = {"spans": {day for day in start_days if day <= latest}, "span_blocks": received}
        missing = {table: self._missing(table, days) for table, days in wanted.items()}
        return any(missing.values()) and await self._make(missing, first=min(received))

    async def restore(self, *, start_days: Iterable[date], received_days: Iterable[date]) -> bool:
        """As `ensure`, but ask the database what is there: somebody may have removed a partition."""
        self._known.clear()
        self._floor.clear()
        return await self.ensure(start_days=start_days, received_days=received_days)

    def _missing(self, table: str, days: set[date]) -> set[date]:
        floor = self._floor.get(table)
        missing = days - self._known.get(table, set())
        return {day for day in missing if day >= floor} if floor else missing

    async def _make(self, missing: dict[str, set[date]], *, first: date) -> bool:
        made_any = False
        async with self._pool.acquire() as connection:
            for table in filter(missing.get, _TABLES):
                async with connection.transaction():
                    floor, there, made = await self._make_days(connection, table, missing[table], first=first)
                self._floor[table] = floor
                self._known[table] = there | made
                made_any = made_any or bool(made)
        return made_any

    async def _make_days(
        self, connection: asyncpg.Connection, table: str, days: set[date], *, first: date
    ) -> tuple[date, set[date], set[date]]:
        await connection.execute("SET LOCAL lock_timeout = '5s'")
        await connection.execute("SELECT pg_advisory_xact_lock($1)", PARTITIONS_LOCK)
        floor, there = await _existing(connection, table)
        if floor is None:
            floor = first - BEHIND
            await _attach(connection, table, f"{table}_before", None, floor)
        made = {day for day in days - there if day >= floor}
        for day in sorted(made):
            await _attach(connection, table, f"{table}_{day.strftime(_NAME)}", day, day + timedelta(days=1))
        return floor, there, made


async def _existing(connection: asyncpg.Connection, table: str) -> tuple[date | None, set[date]]:
    """Where the days begin (None: no partition yet), and the days that have a partition."""
    floor, days = None, set()
    for row in await connection.fetch(_PARTITIONS_OF, table):
        if row["name"] == f"{table}_before":
            floor = row["until"]
        else:
            days.add(date.fromisoformat(row["name"].removeprefix(f"{table}_")))
    return floor, days


async def _attach(connection: asyncpg.Connection, table: str, name: str, since: date | None, until: date) -> None:
    """Made apart and attached, so that neither readers nor writers of the table wait."""
    lower = f"'{since}'" if since else "MINVALUE"
    await connection.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)")
    await connection.execute(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({lower}) TO ('{until}')")


_PARTITIONS_OF = """
SELECT child.relname AS name, substring(pg_get_expr(relpartbound, child.oid) FROM $$TO \\('(.*?)'\\)$$)::date AS until
FROM pg_inherits
JOIN pg_class AS child ON child.oid = pg_inherits.inhrelid
WHERE pg_inherits.inhparent = $1::text::regclass
"""
