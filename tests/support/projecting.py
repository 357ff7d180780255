"""The traces projection on a real Postgres without Kafka: records in, tables out."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg

from services.projections.traces.partitions import Partitions
from services.projections.traces.projection import TracesProjection
from services.projections.traces.tables import NAME, prepare_connection
from shared.event_log.assignment import Assignment
from shared.event_log.codec import LogRecord
from shared.event_log.topics import TRACES
from shared.projection.progress import Progress, read_progress
from shared.projection.projector import Projector
from shared.storage.postgres import connect_pool

T = TypeVar("T")
TABLES = ("spans", "span_blocks", "traces", "sessions", "dead_letters", "projection_positions")


@dataclass(frozen=True, slots=True)
class Projecting:
    """One process's projector and its connections."""

    projector: Projector[Any]
    pool: asyncpg.Pool

    async def fold(self, *records: LogRecord) -> None:
        """One batch."""
        await self.projector.fold(records)

    async def count(self, table: str) -> int:
        """Rows in a table."""
        return int(await self.pool.fetchval(f"SELECT count(*) FROM {table}"))

    async def progress(self) -> dict[int, Progress]:
        """By partition."""
        return await read_progress(self.pool, NAME, TRACES)

    async def dump(self, *tables: str) -> dict[str, list[str]]:
        """Tables as texts, in key order, to be compared; by default the spans and the summaries."""
        rows = {}
        for table in tables or ("spans", "traces", "sessions"):
            query = f"SELECT (to_jsonb(t) - 'changed_by')::text AS row FROM {table} AS t ORDER BY 1"
            rows[table] = [record["row"] for record in await self.pool.fetch(query)]
        return rows

    async def empty(self) -> None:
        """Start again from nothing; the partitions stay."""
        await self.pool.execute(f"TRUNCATE {', '.join(TABLES)}")


@asynccontextmanager
async def projecting(dsn: str) -> AsyncIterator[Projecting]:
    """A projector on this database."""
    pool = await connect_pool(dsn, application="test", max_size=8, init=prepare_connection)
    try:
        yield Projecting(Projector(pool, TracesProjection(Partitions(pool)), Assignment()), pool)
    finally:
        await pool.close()


def batches(records: Sequence[T], sizes: Sequence[int]) -> list[Sequence[T]]:
    """The records (or spans) in batches of these sizes, again and again."""
    found, begin, n = [], 0, 0
    while begin < len(records):
        size = sizes[n % len(sizes)]
        found.append(records[begin : begin + size])
        begin, n = begin + size, n + 1
    return found
