"""The one configured Kafka producer, and how to be rid of it whatever state it is in."""

import asyncio
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import ProducerClosed

from shared.event_log.topics import MAX_RECORD_BYTES
from shared.runtime.settings import KafkaSettings

_BATCH_BYTES = 1024 * 1024
"""Also what a partition buffers while the one batch before is under way. A larger record is a batch by itself."""
_REQUEST_MS = 10_000
_RETRY_SECONDS = 0.1
_DISCARD_SECONDS = 1.5


def make_producer(settings: KafkaSettings, client_id: str) -> AIOKafkaProducer:
    """A producer, not started: idempotent, acknowledged by all in-sync replicas. Values come compressed."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap_servers,
        client_id=client_id,
        enable_idempotence=True,
        acks="all",
        max_batch_size=_BATCH_BYTES,
        max_request_size=MAX_RECORD_BYTES,
        request_timeout_ms=_REQUEST_MS,
        retry_backoff_ms=int(1000 * _RETRY_SECONDS),
    )
    _pace(producer.client)
    return producer


def _pace(client: AIOKafkaClient) -> None:
    """Let it ask for metadata ten times a second at most.

    aiokafka's sender asks again at once while a partition has no leader: some 1,300 times a second, each one logged,
    when the broker that it asks is down.
    """
    update, clock, again_at = client._metadata_update, asyncio.get_running_loop().time, 0.0  # noqa: SLF001

    async def paced(*arguments: Any) -> bool:
        nonlocal again_at
        await asyncio.sleep(again_at - clock())
        try:
            return bool(await update(*arguments))
        finally:
            again_at = clock() + _RETRY_SECONDS

    client._metadata_update = paced  # noqa: SLF001 - nothing public can slow it down


async def discard(producer: AIOKafkaProducer) -> None:
    """Stop it within seconds; whatever it has not delivered fails with ProducerClosed.

    `stop` alone flushes first, which lasts as long as the broker is away, and leaves the flush behind when cancelled.
    """
    producer._message_accumulator.fail_all(ProducerClosed())  # noqa: SLF001 - no public way to give up records
    # Twice, because a request under way holds up the sender's end, and a sender that goes on opens connections again.
    for end in (producer.client.close, producer.stop, producer.client.close):
        with suppress(Exception):
            async with asyncio.timeout(_DISCARD_SECONDS):
                await end()
