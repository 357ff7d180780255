"""Whether Kafka is there: it answers, and has a topic."""

import asyncio

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from shared.runtime.settings import KafkaSettings


async def has_topic(settings: KafkaSettings, topic: str) -> bool:
    """What Kafka says, over a connection of its own.

    Raises KafkaError or OSError when it does not answer.
    """
    client = AIOKafkaClient(bootstrap_servers=settings.bootstrap_servers, client_id="lodestream-presence")
    try:
        await client.bootstrap()
        client.set_topics([topic])
        await client.force_metadata_update()
        return bool(client.cluster.partitions_for_topic(topic))
    finally:
        await client.close()


async def answers(settings: KafkaSettings, topic: str, *, within: float) -> bool:
    """The topic is there, and Kafka has said so within these seconds."""
    try:
        async with asyncio.timeout(within):
            return await has_topic(settings, topic)
    except (KafkaError, OSError, TimeoutError):
        return False
