"""Appending to the log: what is acknowledged is in it, and a log that is away costs seconds and bounded memory.

An idempotent aiokafka producer never gives a record up, does not recover from an error that has shifted its sequence
numbers, and may wait for ever to stop. So every append has a deadline of its own, goes on being counted until the
producer lets go of it, and the producer is replaced when a record fails or is stuck.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError

from shared.event_log.position import Position
from shared.event_log.producer import discard, make_producer
from shared.event_log.topics import MAX_RECORD_BYTES, TRACES, Lane, lane_partition
from shared.runtime.settings import KafkaSettings

log = structlog.get_logger()

MAX_VALUE_BYTES = MAX_RECORD_BYTES - 16 * 1024
"""The largest value of a record: the log counts the batch with its head and the key."""
_LOOK_SECONDS = 0.25


class LogUnavailableError(Exception):
    """The log can't take this now, or has not said in time that it did: append it again with the same ids."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is appended."""

    topic: str
    key: bytes
    value: bytes
    lane: Lane = Lane.EXPRESS
    """Of the topic of traces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long what may take, in seconds."""

    connect: float = 10.0
    stalled: float = 5.0
    """While the oldest append is unacknowledged for longer, new ones are refused at once."""
    replace: float = 30.0
    """A producer whose oldest append is unacknowledged for longer is replaced, and its appends are given up."""
    retire: float = 10.0
    """What a broken producer has to bring its other appends home."""


class Appender:
    """Appends through one producer, replaced by a fresh one when it is broken. One for a process."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        topics: Sequence[str],
        client_id: str,
        patience: Patience | None = None,
        make: Callable[[KafkaSettings, str], AIOKafkaProducer] = make_producer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is connected before `start`. Without these topics the log counts as away."""
        self.in_flight_bytes = 0
        """Of all records that a producer still holds, whether or not somebody waits for them."""
        self.replaced = 0
        """How many producers had to be replaced."""
        self._settings, self._topics, self._client_id = settings, topics, client_id
        self._patience = patience or Patience()
        self._make, self._clock = make, clock
        self._current: _Held | None = None
        self._connected = asyncio.Event()
        self._why_not = "the event log is not connected yet"
        self._keeping: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    async def start(self, *, wait: float) -> None:
        """Connect, for as long as it takes, and stay connected; returns when connected, or after `wait` seconds."""
        self._keeping = asyncio.create_task(self._keep())
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._connected.wait()

    async def stop(self, *, grace: float) -> None:
        """Wait for what is in flight, at most `grace` seconds and only while the log acknowledges, and disconnect."""
        if self._keeping:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        grace = 0.0 if self.unavailable else grace
        held, self._current = self._current, None
        if held:
            await self._retire(held, grace)
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)

    @property
    def oldest_seconds(self) -> float:
        """For how long the oldest append of the current producer has been unacknowledged; 0.0 without any."""
        return self._current.oldest_seconds(self._clock()) if self._current else 0.0

    @property
    def unavailable(self) -> str | None:
        """Why an append would be refused now; None: it would be tried."""
        if self._current is None:
            return self._why_not
        if self.oldest_seconds > self._patience.stalled:
            return f"the event log has not acknowledged for {self.oldest_seconds:.0f} s"
        return None

    async def append(self, records: Sequence[Record], *, within: float) -> list[Position]:
        """Where the records are in the log, once all in-sync replicas have every one of them.

        Raises LogUnavailableError, after `within` seconds at the latest. Then nothing is known: some or all of the
        records may be in the log, now or later.
        """
        if (reason := self.unavailable) or (held := self._current) is None:
            raise LogUnavailableError(reason)
        deliveries = [self._begin(held, record, within) for record in records]
        if deliveries:
            _, late = await asyncio.wait(deliveries, timeout=within)
            if late:
                raise LogUnavailableError(f"the event log has not acknowledged within {within:.1f} s")
        return [delivery.result() for delivery in deliveries]

    def _begin(self, held: "_Held", record: Record, within: float) -> "asyncio.Task[Position]":
        size = len(record.key) + len(record.value)
        if size > MAX_RECORD_BYTES:
            raise ValueError(f"a record of {size} bytes; the log takes {MAX_RECORD_BYTES}")

        def ended(task: asyncio.Task[Position]) -> None:
            del held.deliveries[task]
            self.in_flight_bytes -= size
            if not task.cancelled():
                task.exception()  # whoever waited may be gone

        task = asyncio.create_task(_deliver(held, record, within))
        held.deliveries[task] = self._clock()
        self.in_flight_bytes += size
        task.add_done_callback(ended)
        return task

    async def _keep(self) -> None:
        """One usable producer after the other."""
        while True:
            held = self._current = _Held(await self._connect())
            self._connected.set()
            while not held.broken and held.oldest_seconds(self._clock()) <= self._patience.replace:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await held.broke.wait()
            reason = held.broken or "stuck"
            log.warning("producer replaced", reason=reason, in_flight=len(held.deliveries))
            self._current, self._why_not = None, f"the event log is being connected anew ({reason})"
            self.replaced += 1
            task = asyncio.create_task(self._retire(held, self._patience.retire if held.broken else 0.0))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _connect(self) -> AIOKafkaProducer:
        pause, logged = 0.1, ""
        while True:
            producer = self._make(self._settings, self._client_id)
            why = "Kafka does not answer"
            try:
                async with asyncio.timeout(self._patience.connect):
                    await producer.start()
                    for topic in self._topics:
                        why = f"the topic {topic} is missing"
                        await producer.partitions_for(topic)
            except Exception as error:
                self._why_not = f"the event log is away: {why}"
                if logged != why:
                    logged = why
                    log.warning("not connected", reason=why, error=_name(error), kafka=self._settings.bootstrap_servers)
                await discard(producer)
            except BaseException:
                await discard(producer)
                raise
            else:
                return producer
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - jitter, no secret
            pause = min(pause * 2, 2.0)

    async def _retire(self, held: "_Held", grace: float) -> None:
        try:
            if held.deliveries and grace:
                await asyncio.wait(set(held.deliveries), timeout=grace)
        finally:
            await discard(held.producer)


class _Held:
    """A producer and what it still has to deliver, oldest first."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self.producer = producer
        self.deliveries: dict[asyncio.Task[Position], float] = {}
        self.broken = ""
        self.broke = asyncio.Event()

    def oldest_seconds(self, now: float) -> float:
        return now - next(iter(self.deliveries.values())) if self.deliveries else 0.0

    def breaks(self, error: Exception) -> LogUnavailableError:
        self.broken = self.broken or _name(error)
        self.broke.set()
        return LogUnavailableError(f"the event log refused: {_name(error)}")


async def _deliver(held: _Held, record: Record, within: float) -> Position:
    """A record that fails has used up a sequence number: all that follow it in its partition would fail as well."""
    try:
        async with asyncio.timeout(within):
            if record.topic == TRACES:
                partitions = len(await held.producer.partitions_for(record.topic))
                partition = lane_partition(record.key, record.lane, partitions)
                confirmation = await held.producer.send(record.topic, record.value, record.key, partition)
            else:
                confirmation = await held.producer.send(record.topic, record.value, record.key)
    except (TimeoutError, KafkaTimeoutError):  # the partition's buffer is full; this record is not in it
        raise LogUnavailableError("the event log has not made room in time") from None
    except Exception as error:
        raise held.breaks(error) from error
    try:
        written = await confirmation
    except Exception as error:
        raise held.breaks(error) from error
    if written.offset < 0:
        raise LogUnavailableError("the event log has this record already, and no longer knows where")
    return Position(written.topic, written.partition, written.offset)


def _name(error: Exception) -> str:
    return type(error).__name__
