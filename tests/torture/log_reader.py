"""The log from given offsets to its ends, by a consumer of our own."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from tests.torture.wire import LogRecord, read_record

TOPIC = "lodestream.traces"
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Log:
    """What is in it, and the offset that each partition writes next."""

    records: list[LogRecord]
    ends: dict[int, int]


async def read_ends(kafka: str) -> dict[int, int]:
    """The offset that each partition writes next."""
    async with _consumer(kafka) as consumer:
        return await _ends(kafka, consumer)


async def read_log(kafka: str, begin: Mapping[int, int]) -> Log:
    """Every record from these offsets on (0 where none is given). Raises TimeoutError when the log does not answer."""
    async with _consumer(kafka) as consumer:
        ends = await _ends(kafka, consumer)
        left = {TopicPartition(TOPIC, n): end for n, end in ends.items() if end > begin.get(n, 0)}
        consumer.assign(list(left))
        for partition in left:
            consumer.seek(partition, begin.get(partition.partition, 0))
        records: list[LogRecord] = []
        async with asyncio.timeout(_PATIENCE):
            while left:
                for found in (await consumer.getmany(timeout_ms=500)).values():
                    records += [read_record(one.partition, one.offset, one.value) for one in found]
                for partition in [each for each in left if await consumer.position(each) >= left[each]]:
                    del left[partition]
    return Log(sorted(records, key=lambda one: (one.partition, one.offset)), ends)


@asynccontextmanager
async def _consumer(kafka: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def _ends(kafka: str, consumer: AIOKafkaConsumer) -> dict[int, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        (topic,) = await admin.describe_topics([TOPIC])
    finally:
        await admin.close()
    partitions = [TopicPartition(TOPIC, each["partition"]) for each in topic["partitions"]]
    if not partitions:
        raise OSError(f"the topic {TOPIC} has no partitions")
    return {partition.partition: end for partition, end in (await consumer.end_offsets(partitions)).items()}
