"""One command makes the log's topics, from one table; again does no harm."""

import asyncio

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from shared.event_log.topics import MAX_RECORD_BYTES, TOPICS, create_topics
from shared.runtime.settings import KafkaSettings


async def test_topics_are_created_once_however_often_asked(servers) -> None:
    settings = KafkaSettings(bootstrap_servers=servers.kafka)
    await asyncio.gather(*(create_topics(settings) for _ in range(3)))
    assert await create_topics(settings) == []


async def test_topics_are_as_the_table_says(servers) -> None:
    settings = KafkaSettings(bootstrap_servers=servers.kafka)
    await create_topics(settings)
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.kafka)
    await admin.start()
    try:
        described = await admin.describe_topics([topic.name for topic in TOPICS])
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in TOPICS]
        answers = await admin.describe_configs(resources)
    finally:
        await admin.close()
    assert {topic["topic"]: len(topic["partitions"]) for topic in described} == {t.name: t.partitions for t in TOPICS}
    for answer in answers:
        for _, _, _, _, entries in answer.resources:
            config = {entry[0]: entry[1] for entry in entries}
            assert config["retention.ms"] == "-1", "the log is the truth: it keeps everything"
            assert config["message.timestamp.type"] == "LogAppendTime"
            assert config["max.message.bytes"] == str(MAX_RECORD_BYTES)
