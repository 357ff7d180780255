"""Appending to the log: done when Kafka has it (acks=all, idempotent), refused or unknown within bounded time.

aiokafka's idempotent producer never gives a batch up, and stays broken after a fatal answer such as
OutOfOrderSequenceNumber. So every append has a deadline of its own, after which it counts as in flight until it ends;
an append that stays unacknowledged closes the door for new ones; and a producer that failed, or is stuck, is replaced.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from shared.event_log.position import Position
from shared.event_log.producer import discard, make_producer
from shared.event_log.topics import MAX_RECORD_BYTES
from shared.runtime.settings import KafkaSettings

log = structlog.get_logger()

MAX_VALUE_BYTES = MAX_RECORD_BYTES - 16 * 1024
"""The largest value of a record: the log counts the batch with its head and the key."""
_OVERDUE_SECONDS = 5.0
_STUCK_SECONDS = 30.0
_STOP_SECONDS = 5.0


class LogUnavailableError(Exception):
    """The log did not acknowledge. The record may be there or not: append it again with the same ids."""


class Appender:
    """Appends records. One for a process; the log may be away for any time, also at the start."""

    def __init__(self, settings: KafkaSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._producer: AIOKafkaProducer | None = None
        self._under_way: dict[asyncio.Task[Position], float] = {}
        self._broken = asyncio.Event()
        self._connected = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def start(self, *, wait: float) -> None:
        """Connect, and stay connected, in the background. Returns when connected, or after `wait` seconds."""
        self._keeper = asyncio.create_task(self._keep_connected())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._connected.wait(), wait)

    @property
    def oldest_seconds(self) -> float:
        """The age of the oldest append that is not acknowledged yet."""
        return self._clock() - min(self._under_way.values(), default=self._clock())

    @property
    def unavailable(self) -> str | None:
        """Why an append would be refused now; None: it would be tried."""
        if self._producer is None:
            return "the event log is not connected"
        if self.oldest_seconds > _OVERDUE_SECONDS:
            return "the event log does not acknowledge"
        return None

    async def append(self, topic: str, *, key: bytes, value: bytes, within: float) -> Position:
        """Where the record is, once all in-sync replicas have it.

        Raises LogUnavailableError: at once when the log is known to be away, or after `within` seconds.
        """
        producer, reason = self._producer, self.unavailable
        if producer is None or reason:
            raise LogUnavailableError(reason)
        task = asyncio.create_task(self._send(producer, topic, key, value))
        self._under_way[task] = self._clock()
        task.add_done_callback(self._ended)
        try:
            return await asyncio.wait_for(asyncio.shield(task), within)
        except TimeoutError:
            raise LogUnavailableError("the event log did not acknowledge in time") from None
        except KafkaError as error:
            raise LogUnavailableError(f"the event log refused: {type(error).__name__}") from error

    async def stop(self) -> None:
        """Wait for what is under way (for seconds, not for ever) and disconnect."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=_STOP_SECONDS)
        if self._keeper:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        await self._replace(None)

    async def _send(self, producer: AIOKafkaProducer, topic: str, key: bytes, value: bytes) -> Position:
        written = await (await producer.send(topic, value, key=key))
        return Position(topic, written.partition, written.offset)

    def _ended(self, task: asyncio.Task[Position]) -> None:
        del self._under_way[task]
        if task.cancelled():
            return
        error = task.exception()  # whoever waited may be gone
        if error is not None and not isinstance(error, MessageSizeTooLargeError):
            log.warning("append failed; the producer is replaced", error=f"{type(error).__name__}: {error}")
            self._broken.set()

    async def _keep_connected(self) -> None:
        pause = 0.1
        while True:
            if self._producer is None:
                try:
                    await self._replace(await self._connect())
                    pause = 0.1
                except (KafkaError, OSError) as error:
                    log.warning("the event log is away", error=f"{type(error).__name__}: {error}")
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, 5.0)
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._broken.wait(), 1.0)
            if self._broken.is_set() or self.oldest_seconds > _STUCK_SECONDS:
                await self._replace(None)

    async def _connect(self) -> AIOKafkaProducer:
        producer = make_producer(self._settings, "lodestream-append")
        try:
            await producer.start()
        except BaseException:
            await discard(producer)
            raise
        return producer

    async def _replace(self, producer: AIOKafkaProducer | None) -> None:
        """Take another producer. What the old one had under way is unknown from now on."""
        old, self._producer = self._producer, producer
        if producer is not None:
            self._connected.set()
        self._broken.clear()
        if old is not None:
            for task in list(self._under_way):
                task.cancel()
            await discard(old)
