"""The configured FastStream broker: bytes in, one acknowledgement policy, a pause after every failure.

Correctness does not rest on it: positions live with the rows they stand for. It hands over batches, and hands them over
again after an error.
"""

import asyncio
import logging
import random
from dataclasses import replace
from typing import Any

import structlog
from aiokafka import ConsumerRecord
from faststream import AckPolicy, BaseMiddleware
from faststream.exceptions import NackMessage
from faststream.kafka import KafkaBroker, KafkaRouter
from faststream.kafka.subscriber.usecase import BatchSubscriber

from shared.event_log.assignment import Assignment
from shared.event_log.codec import LogRecord, read
from shared.runtime.settings import KafkaSettings

log = structlog.get_logger()


def log_router() -> KafkaRouter:
    """Where a service declares what it reads: bytes in, and a batch whose handler raises is handed over again.

    The policy stands here, not at the broker: a router's subscribers settle how they acknowledge when they are
    declared, so with the broker's alone they would commit before the work is done.
    """
    return KafkaRouter(ack_policy=AckPolicy.NACK_ON_ERROR, parser=_parse_batch, decoder=_decode_batch)


def kafka_broker(settings: KafkaSettings, *, client_id: str) -> KafkaBroker:
    """A broker that only reads, and pauses before it hands over again."""
    quiet = logging.getLogger("faststream.kafka")
    quiet.setLevel(logging.ERROR)
    return KafkaBroker(
        settings.bootstrap_servers,
        client_id=client_id,
        consumer_only=True,
        middlewares=[BackOff()],
        graceful_timeout=10,
        logger=quiet,
    )


def read_batches(
    router: KafkaRouter,
    topic: str,
    *,
    group: str,
    session_seconds: float,
    listener: Assignment,
    max_records: int,
    description: str,
) -> BatchSubscriber:
    """Declare that a service reads a topic in batches of at most `max_records`, from where `listener` says.

    Others of the group read its partitions when it has been silent for `session_seconds`.
    """
    return router.subscriber(
        topic,
        description=description,
        group_id=group,
        batch=True,
        max_records=max_records,
        batch_timeout_ms=50,
        auto_offset_reset="earliest",
        session_timeout_ms=int(session_seconds * 1000),
        heartbeat_interval_ms=1_000,  # how soon one learns that the group is dealt anew; until then all of it waits
        rebalance_timeout_ms=60_000,
        listener=listener,
        no_reply=True,
    )


async def _parse_batch(records: tuple[ConsumerRecord[Any, Any], ...], original: Any) -> Any:
    """FastStream's message for a batch, without its headers: one that is no UTF-8 would refuse the batch for ever."""
    return await original(tuple(replace(record, headers=()) if record.headers else record for record in records))


async def _decode_batch(message: Any) -> list[LogRecord]:
    """The records of a batch. Never raises: what can't be read is a value."""
    return [
        read(record.topic, record.partition, record.offset, record.timestamp, record.value)
        for record in message.raw_message
    ]


class BackOff:
    """A middleware: pauses after a failed batch before it is handed back, longer each time, with jitter."""

    def __init__(self, *, first: float = 0.1, longest: float = 10.0) -> None:
        self._first = first
        self._longest = longest
        self._failures = 0

    def __call__(self, message: Any, /, *, context: Any) -> "_Attempt":
        return _Attempt(message, context=context, back_off=self)

    def succeeded(self) -> None:
        """The next failure starts with the shortest pause again."""
        self._failures = 0

    async def failed(self, error: Exception) -> None:
        """Say what went wrong (in full the first time) and pause."""
        limit = min(self._first * 2**self._failures, self._longest)
        pause = random.uniform(limit / 2, limit)  # noqa: S311 - jitter, no secret
        log.warning(
            "batch handed back",
            error=f"{type(error).__name__}: {error}",
            again_in=round(pause, 2),
            failures=self._failures + 1,
            exc_info=error if self._failures == 0 else None,
        )
        self._failures = min(self._failures + 1, 30)
        await asyncio.sleep(pause)


class _Attempt(BaseMiddleware[Any, Any]):
    def __init__(self, message: Any, /, *, context: Any, back_off: BackOff) -> None:
        super().__init__(message, context=context)
        self._back_off = back_off

    async def consume_scope(self, call_next: Any, msg: Any) -> Any:
        try:
            result = await call_next(msg)
        except Exception as error:
            await self._back_off.failed(error)
            raise NackMessage from error
        self._back_off.succeeded()
        return result
