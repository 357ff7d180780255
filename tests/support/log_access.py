"""The real log for tests: append to it, set a group's offsets, cut it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import OffsetAndMetadata

from shared.event_log.codec import LogRecord, read
from shared.event_log.position import Position
from shared.event_log.topics import TRACES


async def append(kafka: str, values: Iterable[tuple[int, bytes]], *, topic: str = TRACES) -> None:
    """Append (partition, bytes) pairs to a topic; returns when all are acknowledged."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, enable_idempotence=True, max_batch_size=1_000_000)
    await producer.start()
    try:
        confirmations = [await producer.send(topic, value, partition=partition) for partition, value in values]
        for confirmation in confirmations:
            await confirmation
    finally:
        await producer.stop()


@asynccontextmanager
async def consumer_of(kafka: str, group: str | None = None) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer outside of any balancing."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def read_at(kafka: str, position: Position) -> LogRecord:
    """The record at a position."""
    async with consumer_of(kafka) as consumer:
        partition = TopicPartition(position.topic, position.partition)
        consumer.assign([partition])
        consumer.seek(partition, position.offset)
        found = await asyncio.wait_for(consumer.getone(partition), 10)
        return read(found.topic, found.partition, found.offset, found.timestamp, found.value)


async def read_range(kafka: str, begin: Mapping[int, int]) -> list[LogRecord]:
    """All records from these offsets to the present ends, partition by partition."""
    return [
        await read_at(kafka, Position(TRACES, partition, offset))
        for partition, end in (await ends(kafka)).items()
        for offset in range(begin.get(partition, 0), end)
    ]


async def ends(kafka: str, topic: str = TRACES) -> dict[int, int]:
    """The offset that each partition of a topic writes next."""
    async with consumer_of(kafka) as consumer:
        partitions = [TopicPartition(topic, n) for n in range(12)]
        return {partition.partition: end for partition, end in (await consumer.end_offsets(partitions)).items()}


async def commit_for(kafka: str, group: str, offsets: Mapping[int, int]) -> None:
    """Set the committed offsets of a group that has no members."""
    async with consumer_of(kafka, group) as consumer:
        consumer.assign([TopicPartition(TRACES, partition) for partition in offsets])
        await consumer.commit(
            {TopicPartition(TRACES, partition): OffsetAndMetadata(offset, "") for partition, offset in offsets.items()}
        )


async def committed_by(kafka: str, group: str) -> dict[int, int | None]:
    """The committed offsets of a group."""
    async with consumer_of(kafka, group) as consumer:
        partitions = [TopicPartition(TRACES, n) for n in range(12)]
        consumer.assign(partitions)
        return {partition.partition: await consumer.committed(partition) for partition in partitions}


async def cut(kafka: str, before: Mapping[int, int]) -> None:
    """Delete the records before these offsets."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.delete_records(
            {TopicPartition(TRACES, partition): RecordsToDelete(offset) for partition, offset in before.items()}
        )
    finally:
        await admin.close()
