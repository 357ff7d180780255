"""The log from given offsets to its ends, by a consumer of our own."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from tests.torture.contract import LogEvent, read_event
from tests.torture.wire import LogRecord, read_record

TOPIC = "lodestream.traces"
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Log:
    """What is in the topic of traces, and the offset that each partition writes next."""

    records: list[LogRecord]
    ends: dict[int, int]


@dataclass(frozen=True, slots=True)
class Events:
    """What is in another topic, in its order, and the offset that each partition writes next."""

    topic: str
    events: Sequence[LogEvent]
    ends: Mapping[int, int]


async def read_ends(kafka: str, topic: str = TOPIC) -> dict[int, int]:
    """The offset that each partition writes next."""
    async with _consumer(kafka) as consumer:
        return await _ends(kafka, consumer, topic)


async def read_log(kafka: str, begin: Mapping[int, int]) -> Log:
    """Every record of spans from these offsets on (0 where none is given).

    Raises TimeoutError when the log does not answer.
    """
    found, ends = await _read(kafka, TOPIC, begin)
    return Log([read_record(one.partition, one.offset, one.value) for one in found], ends)


async def read_events(kafka: str, topic: str, begin: Mapping[int, int]) -> Events:
    """The same of a topic of other events."""
    found, ends = await _read(kafka, topic, begin)
    events = [read_event(topic, one.partition, one.offset, one.timestamp, one.value) for one in found]
    return Events(topic, events, ends)


async def _read(
    kafka: str, topic: str, begin: Mapping[int, int]
) -> tuple[list[ConsumerRecord[bytes, bytes]], dict[int, int]]:
    async with _consumer(kafka) as consumer:
        ends = await _ends(kafka, consumer, topic)
        left = {TopicPartition(topic, n): end for n, end in ends.items() if end > begin.get(n, 0)}
        consumer.assign(list(left))
        for partition in left:
            consumer.seek(partition, begin.get(partition.partition, 0))
        records: list[ConsumerRecord[bytes, bytes]] = []
        async with asyncio.timeout(_PATIENCE):
            while left:
                for found in (await consumer.getmany(timeout_ms=500)).values():
                    records += found
                for partition in await _read_whole(consumer, left):
                    del left[partition]
    return sorted(records, key=lambda one: (one.partition, one.offset)), ends


async def _read_whole(consumer: AIOKafkaConsumer, left: Mapping[TopicPartition, int]) -> list[TopicPartition]:
    return [partition for partition, end in left.items() if await consumer.position(partition) >= end]


@asynccontextmanager
async def _consumer(kafka: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def _ends(kafka: str, consumer: AIOKafkaConsumer, topic: str) -> dict[int, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        (described,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    partitions = [TopicPartition(topic, each["partition"]) for each in described["partitions"]]
    if not partitions:
        raise OSError(f"the topic {topic} has no partitions")
    return {partition.partition: end for partition, end in (await consumer.end_offsets(partitions)).items()}
