"""The topics of the log, in one table, and the command that creates them: `python -m shared.event_log.topics`."""

import asyncio
import enum
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code
from aiokafka.partitioner import murmur2

from shared.runtime.settings import KafkaSettings

TRACES = "lodestream.traces"
SCORES = "lodestream.scores"
PROMPTS = "lodestream.prompts"
EXPERIMENTS = "lodestream.experiments"
MAX_RECORD_BYTES = 2 * 1024 * 1024
"""The largest record the log takes; `message.max.bytes` of the brokers must not be below."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of the log. The partition count is fixed at creation: changing it would move keys."""

    name: str
    partitions: int = 12


class Lane(enum.Enum):
    """Which partitions of the traces a record goes to, so that a backlog of one project stands before nobody else's."""

    EXPRESS = "express"
    """Of projects that write no more than their fair rate."""
    BULK = "bulk"
    """What is beyond it."""


_BULK_FROM = 8
"""The first of the traces' partitions that are kept for the bulk."""


def is_bulk(topic: str, partition: int) -> bool:
    """Whether a partition holds what is beyond its projects' fair rates."""
    return topic == TRACES and partition >= _BULK_FROM


def lane_partition(key: bytes, lane: Lane, partitions: int) -> int:
    """The partition of a key among those of a lane; a topic of few partitions has no lanes."""
    if partitions <= _BULK_FROM:
        first, count = 0, partitions
    elif lane is Lane.EXPRESS:
        first, count = 0, _BULK_FROM
    else:
        first, count = _BULK_FROM, partitions - _BULK_FROM
    return first + int(murmur2(key) & 0x7FFF_FFFF) % count


TOPICS = (Topic(TRACES), Topic(SCORES), Topic(PROMPTS), Topic(EXPERIMENTS))


async def create_topics(settings: KafkaSettings) -> list[str]:
    """Create what is missing and return the names created. Idempotent; an existing topic is left as it is."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers, client_id="lodestream-topics")
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        missing = [topic for topic in TOPICS if topic.name not in existing]
        if not missing:
            return []
        response = await admin.create_topics([_new_topic(topic, settings) for topic in missing])
        for name, code, *_ in response.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise error(name)
        return [topic.name for topic in missing]
    finally:
        await admin.close()


def _new_topic(topic: Topic, settings: KafkaSettings) -> NewTopic:
    return NewTopic(
        name=topic.name,
        num_partitions=topic.partitions,
        replication_factor=settings.replication_factor,
        topic_configs={
            "retention.ms": "-1",  # the log is the truth
            "retention.bytes": "-1",
            "cleanup.policy": "delete",
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(MAX_RECORD_BYTES),
            "min.insync.replicas": str(min(2, settings.replication_factor)),
        },
    )


def main() -> None:
    """Create the topics and say which."""
    created = asyncio.run(create_topics(KafkaSettings()))
    print(f"created {', '.join(created)}" if created else "all topics exist")  # noqa: T201


if __name__ == "__main__":
    main()
