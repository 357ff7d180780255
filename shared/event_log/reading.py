"""A stretch of one partition of the log, read from a known offset to a known offset, outside of any group."""

from collections.abc import AsyncIterator, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.event_log.codec import LogRecord, read
from shared.event_log.topics import TOPICS
from shared.runtime.settings import KafkaSettings

_FETCH_BYTES = 8 * 1024 * 1024
_RECORDS = 400
_PARTITIONS = {topic.name: topic.partitions for topic in TOPICS}

Offsets = Mapping[int, int]


def range_consumer(settings: KafkaSettings, client_id: str) -> AIOKafkaConsumer:
    """A consumer for `read_range`, not started."""
    return AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers,
        client_id=client_id,
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=_FETCH_BYTES,
        fetch_max_bytes=_FETCH_BYTES,
        fetch_max_wait_ms=100,
    )


async def read_range(
    consumer: AIOKafkaConsumer, partition: TopicPartition, begin: int, end: int
) -> AsyncIterator[list[LogRecord]]:
    """The records from `begin` up to, not including, `end`, in pieces. `end` must not lie beyond the log's."""
    consumer.assign([partition])
    consumer.seek(partition, begin)
    position = begin
    while position < end:
        fetched = await consumer.getmany(partition, timeout_ms=500, max_records=_RECORDS)
        records = [
            read(each.topic, each.partition, each.offset, each.timestamp, each.value)
            for each in fetched.get(partition, ())
            if each.offset < end
        ]
        if records:
            yield records
        position = await consumer.position(partition)  # behind a hole, if there is one before the end
    consumer.unsubscribe()


async def log_range(consumer: AIOKafkaConsumer, topic: str) -> tuple[dict[int, int], dict[int, int]]:
    """The offset at which each partition of a topic begins, and the one that it writes next."""
    partitions = [TopicPartition(topic, number) for number in range(_PARTITIONS[topic])]
    starts, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    return {each.partition: starts[each] for each in partitions}, {each.partition: ends[each] for each in partitions}
