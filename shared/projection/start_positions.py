"""Where to read each partition on: Postgres says, the log must still hold it, and the group's offsets are not asked."""

from collections.abc import Collection, Mapping

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.event_log.assignment import StartPosition
from shared.projection import metrics
from shared.projection.progress import Progress, halt, read_progress

log = structlog.get_logger()


class StartPositions:
    """Finds the places of newly assigned partitions."""

    def __init__(self, pool: asyncpg.Pool, projection: str, topic: str) -> None:
        self._pool, self._projection, self._topic = pool, projection, topic

    async def find(
        self, consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, StartPosition]:
        """The place of each; a partition whose next record the log does not hold is halted, never reset."""
        stored = await read_progress(self._pool, self._projection, self._topic)
        starts = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        places = {}
        for partition in partitions:
            progress = stored.get(partition.partition, Progress(0))
            reason = progress.halted_reason or outside(progress.next_offset, starts[partition], ends[partition])
            if reason and not progress.halted_reason:
                await halt(self._pool, self._projection, partition.topic, partition.partition, reason)
            places[partition] = StartPosition(progress.next_offset, reason)
            await self._compare(consumer, partition, progress.next_offset)
        return places

    async def _compare(self, consumer: AIOKafkaConsumer, partition: TopicPartition, next_offset: int) -> None:
        """Group offsets are for tools. One ahead of the rows would mislead whoever watches it, so it is told."""
        committed = await consumer.committed(partition)
        if committed is not None and committed > next_offset:
            metrics.GROUP_AHEAD.labels(self._projection).inc()
            log.warning(
                "group offset ahead of the rows; it is ignored",
                partition=partition.partition, group_offset=committed, next_offset=next_offset,
            )  # fmt: skip


def outside(next_offset: int, log_start: int, log_end: int) -> str | None:
    """Why a partition can't go on, when the log no longer (or not yet) holds its next record."""
    if next_offset < log_start:
        return (
            f"records expired before they were projected: the log begins at {log_start}, the position is {next_offset}"
        )
    if next_offset > log_end:
        return f"the log was replaced or cut: it ends at {log_end}, the position is {next_offset}"
    return None
