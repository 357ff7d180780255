"""The appender's states, with a producer and a clock in the test's hands."""

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError, OutOfOrderSequenceNumber
from aiokafka.structs import RecordMetadata, TopicPartition

from shared.event_log.append import MAX_VALUE_BYTES, Appender, LogUnavailableError, Patience, Record
from shared.event_log.position import Position
from shared.event_log.topics import MAX_RECORD_BYTES
from shared.runtime.settings import KafkaSettings
from tests.support.polling import until

RECORD = Record("t", b"key", b"value")


class Producer:
    """What the appender sees of aiokafka."""

    def __init__(self) -> None:
        self.sent: list[asyncio.Future[RecordMetadata]] = []
        self.stopped = False
        self.start_error: Exception | None = None
        self.send_error: Exception | None = None
        self.client = self
        self._message_accumulator = self

    async def start(self) -> None:
        if self.start_error:
            raise self.start_error

    async def partitions_for(self, topic: str) -> set[int]:
        return {0}

    async def send(self, topic: str, value: bytes, key: bytes) -> asyncio.Future[RecordMetadata]:
        if self.send_error:
            raise self.send_error
        self.sent.append(asyncio.get_running_loop().create_future())
        return self.sent[-1]

    def acknowledge(self, number: int, offset: int) -> None:
        place = TopicPartition("t", 3)
        self.sent[number].set_result(RecordMetadata("t", 3, place, offset, 0, 0, 0))

    def fail_all(self, error: Exception) -> None:
        for future in self.sent:
            if not future.done():
                future.set_exception(error)

    async def stop(self) -> None:
        self.stopped = True

    async def close(self) -> None:
        pass


class Stage:
    """An appender, its producers in the order they were made, and the time."""

    def __init__(self, *producers: Producer, **patience: float) -> None:
        self.producers, self.made, self.now = list(producers), 0, 100.0
        limits = Patience(**{"retire": 0.0, **patience})
        self.appender = Appender(
            KafkaSettings(), topics=["t"], client_id="c", patience=limits, make=self._make, clock=lambda: self.now
        )

    def _make(self, *_: Any) -> Any:
        self.made += 1
        return self.producers[min(self.made, len(self.producers)) - 1]


async def begun(stage: Stage, count: int = 1, within: float = 5) -> "asyncio.Task[list[Position]]":
    producer = stage.producers[min(stage.made, len(stage.producers)) - 1]
    already = len(producer.sent)
    task = asyncio.create_task(stage.appender.append([RECORD] * count, within=within))
    await until(lambda: len(producer.sent) == already + count)
    return task


async def test_an_append_ends_with_the_last_acknowledgement() -> None:
    stage = Stage(producer := Producer())
    await stage.appender.start(wait=1)
    task = await begun(stage, 2)
    assert stage.appender.in_flight_bytes == 2 * len(b"keyvalue")
    producer.acknowledge(1, 8)
    await asyncio.sleep(0)
    assert not task.done()
    producer.acknowledge(0, 7)
    assert await task == [Position("t", 3, 7), Position("t", 3, 8)]
    assert stage.appender.in_flight_bytes == 0
    await stage.appender.stop(grace=1)
    assert producer.stopped


async def test_what_nobody_waits_for_any_more_still_counts() -> None:
    stage = Stage(producer := Producer())
    await stage.appender.start(wait=1)
    with pytest.raises(LogUnavailableError, match="within 0"):
        await stage.appender.append([RECORD], within=0.01)
    assert stage.appender.in_flight_bytes > 0
    producer.acknowledge(0, 1)
    await until(lambda: stage.appender.in_flight_bytes == 0)
    await stage.appender.stop(grace=1)


async def test_the_circuit_opens_with_the_age_of_the_oldest_and_closes_with_its_end() -> None:
    stage = Stage(producer := Producer(), stalled=5.0)
    await stage.appender.start(wait=1)
    old = await begun(stage)
    stage.now += 5.0
    assert stage.appender.unavailable is None
    stage.now += 0.1
    assert stage.appender.unavailable == "the event log has not acknowledged for 5 s"
    with pytest.raises(LogUnavailableError, match="for 5 s"):
        await stage.appender.append([RECORD], within=5)
    assert len(producer.sent) == 1, "nothing was sent"
    producer.acknowledge(0, 1)
    await old
    assert stage.appender.unavailable is None
    await stage.appender.stop(grace=1)


async def test_a_stuck_producer_is_replaced_and_gives_up_what_it_holds() -> None:
    stage = Stage(stuck := Producer(), Producer(), stalled=5.0, replace=30.0)
    await stage.appender.start(wait=1)
    old = await begun(stage)
    stage.now += 31
    with pytest.raises(LogUnavailableError):
        await old
    await until(lambda: stage.appender.unavailable is None)
    assert stuck.stopped
    assert (stage.appender.replaced, stage.appender.in_flight_bytes) == (1, 0)
    await stage.appender.stop(grace=1)


async def test_a_failed_record_replaces_the_producer() -> None:
    stage = Stage(broken := Producer(), Producer())
    await stage.appender.start(wait=1)
    task = await begun(stage)
    broken.sent[0].set_exception(OutOfOrderSequenceNumber())
    with pytest.raises(LogUnavailableError, match="OutOfOrderSequenceNumber"):
        await task
    await until(lambda: stage.made == 2)
    await until(lambda: stage.appender.unavailable is None)
    assert await stopped(broken)
    await stage.appender.stop(grace=1)


async def stopped(producer: Producer) -> bool:
    return await until(lambda: producer.stopped)


async def test_a_full_buffer_is_no_reason_to_replace_it() -> None:
    stage = Stage(producer := Producer())
    await stage.appender.start(wait=1)
    producer.send_error = KafkaTimeoutError()
    with pytest.raises(LogUnavailableError, match="room"):
        await stage.appender.append([RECORD], within=5)
    producer.send_error = None
    task = await begun(stage)
    producer.acknowledge(0, 1)
    assert await task
    assert stage.appender.replaced == 0
    await stage.appender.stop(grace=1)


async def test_a_record_the_log_has_already_without_saying_where_is_not_acknowledged() -> None:
    stage = Stage(producer := Producer())
    await stage.appender.start(wait=1)
    task = await begun(stage)
    producer.acknowledge(0, -1)
    with pytest.raises(LogUnavailableError, match="no longer knows where"):
        await task
    await stage.appender.stop(grace=1)


async def test_nothing_is_taken_before_the_first_connection() -> None:
    away = Producer()
    away.start_error = KafkaConnectionError()
    stage = Stage(away, Producer())
    assert stage.appender.unavailable == "the event log is not connected yet"
    await stage.appender.start(wait=0.01)
    await until(lambda: stage.appender.unavailable is None)
    assert stage.made == 2
    await stage.appender.stop(grace=1)


async def test_a_record_too_large_for_the_log_is_the_callers_mistake() -> None:
    stage = Stage(Producer())
    await stage.appender.start(wait=1)
    with pytest.raises(ValueError, match=str(MAX_RECORD_BYTES)):
        await stage.appender.append([Record("t", b"", b"x" * (MAX_RECORD_BYTES + 1))], within=1)
    assert MAX_VALUE_BYTES < MAX_RECORD_BYTES
    await stage.appender.stop(grace=1)
