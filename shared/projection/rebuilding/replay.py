"""The log folded from each partition's position to an offset, as the live projection folds it, in larger batches.

Every batch is a transaction of its own that moves the position with the rows: wherever it dies, it goes on from there.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Generic

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.event_log.codec import LogRecord
from shared.event_log.reading import range_consumer, read_range
from shared.projection.parking import park, split
from shared.projection.progress import HaltError, SkippedError, fence
from shared.projection.projection import Prepared, Projection
from shared.projection.rebuilding.names import rebuilt
from shared.projection.rebuilding.rebuildable import Rebuildable
from shared.runtime.failpoints import failpoint
from shared.runtime.settings import KafkaSettings
from shared.storage.postgres import connect_pool

log = structlog.get_logger()

LANES = 3
"""Partitions at a time in one process: while Postgres works for one, Python folds another."""
_ITEMS = 6_000
"""Spans of a batch; live ones hold some 2,000."""
_ATTEMPTS = 5
# It has no latency to keep, and a transaction that a crash of Postgres takes back takes its position back too.
_SETTINGS = {"synchronous_commit": "off", "statement_timeout": "10min", "lock_timeout": "1min"}

Told = Callable[[int, int], None]
"""Is told records and items (spans) with each commit."""


@asynccontextmanager
async def replaying(
    what: Rebuildable[Prepared], *, kafka: KafkaSettings, dsn: str
) -> AsyncIterator["Replay[Prepared]"]:
    """A replay into the schema being rebuilt."""
    generation = rebuilt(what.name)
    pool = await connect_pool(
        dsn,
        application=f"rebuild-{what.name}",
        search_path=generation.search_path,
        max_size=LANES + 2,
        command_timeout=600,
        init=what.prepare_connection,
        server_settings=_SETTINGS,
    )
    consumers = [range_consumer(kafka, f"lodestream-rebuild-{what.name}") for _ in range(LANES)]
    try:
        await asyncio.gather(*(consumer.start() for consumer in consumers))
        yield Replay(pool, consumers, what.open(pool, generation.projection))
    finally:
        await asyncio.gather(*(consumer.stop() for consumer in consumers))
        await pool.close()


class Replay(Generic[Prepared]):
    """Folds partitions, a few at a time."""

    def __init__(
        self, pool: asyncpg.Pool, consumers: Sequence[AIOKafkaConsumer], projection: Projection[Prepared]
    ) -> None:
        self._pool, self._consumers, self._projection = pool, consumers, projection

    async def to(self, targets: Mapping[int, int], told: Told = lambda _records, _items: None) -> None:
        """Fold until each partition's position has reached its target; one that is there already is not touched."""
        rows = await self._pool.fetch(_POSITIONS, self._projection.name, self._projection.topic)
        at = {row["partition"]: row["next_offset"] for row in rows}
        left = iter(
            [(partition, at[partition], target) for partition, target in targets.items() if at[partition] < target]
        )
        async with asyncio.TaskGroup() as lanes:
            for consumer in self._consumers:
                lanes.create_task(self._lane(consumer, left, told))

    async def _lane(self, consumer: AIOKafkaConsumer, left: Iterable[tuple[int, int, int]], told: Told) -> None:
        for partition, begin, target in left:
            await self._partition(consumer, TopicPartition(self._projection.topic, partition), begin, target, told)

    async def _partition(
        self, consumer: AIOKafkaConsumer, partition: TopicPartition, begin: int, target: int, told: Told
    ) -> None:
        position = begin
        async for records in read_range(consumer, partition, begin, target):
            for batch in self._batches(records):
                await self._fold(batch, position, told)
                position = batch[-1].offset + 1

    def _batches(self, records: Sequence[LogRecord]) -> Iterable[Sequence[LogRecord]]:
        batch: list[LogRecord] = []
        items = 0
        for record in records:
            batch.append(record)
            items += self._projection.items(record.event) if record.event else 1
            if items >= _ITEMS:
                yield batch
                batch, items = [], 0
        if batch:
            yield batch

    async def _fold(self, batch: Sequence[LogRecord], position: int, told: Told) -> None:
        """Raises what does not pass: the rebuild ends, and goes on from here when it is started again."""
        for attempt in count(1):
            try:
                await self._commit(batch, position, told)
            except (SkippedError, HaltError):
                raise
            except Exception as error:  # a deadlock, a lost connection
                if attempt == _ATTEMPTS:
                    raise
                log.warning("batch folded again", error=f"{type(error).__name__}: {error}", attempt=attempt)
                await asyncio.sleep(0.2 * 2**attempt)
            else:
                return

    async def _commit(self, batch: Sequence[LogRecord], position: int, told: Told) -> None:
        projection = self._projection
        prepared = await self._prepare(batch)
        async with fence(self._pool, projection.name, batch, hole_at=position) as fenced:
            if not fenced.fresh:
                return
            if len(fenced.fresh) < len(batch):
                prepared = await self._prepare(fenced.fresh)
            known, unknown = split(fenced.fresh)
            await park(fenced.connection, projection.name, unknown)
            if prepared is not None:
                await projection.write(fenced.connection, known, prepared)
        await failpoint("rebuild.committed")
        items = sum(projection.items(record.event) for record in fenced.fresh if record.event)
        told(len(fenced.fresh), items)

    async def _prepare(self, records: Sequence[LogRecord]) -> Prepared | None:
        known, _ = split(records)
        return await self._projection.prepare(known) if known else None


_POSITIONS = "SELECT partition, next_offset FROM projection_positions WHERE projection = $1 AND topic = $2"
