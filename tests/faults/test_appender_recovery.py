"""A producer that Kafka will never listen to again is replaced; what it had under way elsewhere is brought home."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaError,
    NotEnoughReplicasError,
    OutOfOrderSequenceNumber,
    UnknownProducerId,
)
from aiokafka.producer.sender import SendProduceReqHandler

from shared.event_log.append import Appender, LogUnavailableError, Patience, Record
from shared.event_log.producer import discard, make_producer
from shared.event_log.topics import TRACES
from shared.runtime.settings import KafkaSettings
from tests.support.polling import until
from tests.support.servers import Servers


@asynccontextmanager
async def appending(kafka: str, **options: Any) -> AsyncIterator[Appender]:
    settings = KafkaSettings(bootstrap_servers=kafka)
    appender = Appender(settings, **{"topics": [TRACES], "client_id": "test", **options})
    await appender.start(wait=10)
    try:
        yield appender
    finally:
        await appender.stop(grace=5)


def record(key: bytes = b"k", value: bytes = b"no event") -> Record:
    return Record(TRACES, key, value)


@pytest.fixture
def lose_one(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Arms an error for the next produce request: it fails with its sequence numbers used up, unsent."""
    armed: list[type[KafkaError]] = []
    send = SendProduceReqHandler.do

    async def do(self: SendProduceReqHandler, node_id: int) -> None:
        if not armed:
            await send(self, node_id)
            return
        error = armed.pop()
        for batch in self._batches.values():
            batch.failure(error())

    monkeypatch.setattr(SendProduceReqHandler, "do", do)
    return armed.append


async def test_aiokafka_alone_stays_broken_after_a_lost_sequence_number(servers: Servers, lose_one: Any) -> None:
    """Why there is an Appender: should this test fail one day, aiokafka has mended it."""
    producer = make_producer(KafkaSettings(bootstrap_servers=servers.kafka), "test")
    await producer.start()
    try:
        await producer.send_and_wait(TRACES, b"no event", key=b"k")
        lose_one(OutOfOrderSequenceNumber)
        for _ in range(3):
            with pytest.raises(OutOfOrderSequenceNumber):
                await asyncio.wait_for(producer.send_and_wait(TRACES, b"no event", key=b"k"), 5)
    finally:
        await discard(producer)


@pytest.mark.parametrize(
    "error", [OutOfOrderSequenceNumber, UnknownProducerId, InvalidProducerEpoch, NotEnoughReplicasError]
)
async def test_a_broken_producer_is_replaced_within_five_seconds(
    servers: Servers, lose_one: Any, error: type[KafkaError]
) -> None:
    async with appending(servers.kafka) as appender:
        await appender.append([record()], within=5)
        lose_one(error)
        begin = time.monotonic()
        with pytest.raises(LogUnavailableError, match=error.__name__):
            await appender.append([record()], within=5)

        async def accepted() -> bool:
            try:
                return bool(await appender.append([record()], within=5))
            except LogUnavailableError:
                return False

        await until(accepted, deadline=5, what="appends are taken again")
        assert time.monotonic() - begin < 5
        assert appender.replaced == 1
        assert await appender.append([record(b"other")], within=5)
        await until(lambda: appender.in_flight_bytes == 0)


async def test_a_record_fails_alone_and_others_under_way_are_told_the_truth(servers: Servers, lose_one: Any) -> None:
    """Each waiter gets its position or LogUnavailableError, never a cancellation."""
    async with appending(servers.kafka) as appender:
        lose_one(OutOfOrderSequenceNumber)
        calls = [appender.append([record(b"%d" % n, b"x" * 1000)], within=8) for n in range(200)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        kinds = {type(outcome) for outcome in outcomes}
        assert kinds <= {list, LogUnavailableError}
        assert LogUnavailableError in kinds


async def test_a_missing_topic_is_named(servers: Servers) -> None:
    settings = KafkaSettings(bootstrap_servers=servers.kafka)
    patience = Patience(connect=1.0)
    appender = Appender(settings, topics=["no.such.topic"], client_id="test", patience=patience)
    await appender.start(wait=3)
    try:
        assert appender.unavailable == "the event log is away: the topic no.such.topic is missing"
        with pytest.raises(LogUnavailableError, match=r"no\.such\.topic"):
            await appender.append([record()], within=1)
    finally:
        await appender.stop(grace=1)


async def test_a_producer_whose_broker_is_frozen_is_discarded_in_seconds(private_kafka: Any) -> None:
    kafka = await private_kafka()
    producer = make_producer(KafkaSettings(bootstrap_servers=kafka.command.address), "test")
    await producer.start()
    await producer.send_and_wait(TRACES, b"no event", key=b"k")
    kafka.pause()
    try:
        stuck = await producer.send(TRACES, b"no event", key=b"k")
        await until(lambda: not producer._message_accumulator._batches, what="the sender has it")
        begin = time.monotonic()
        await discard(producer)
        assert time.monotonic() - begin < 5
        assert stuck.done()
        assert isinstance(stuck.exception(), KafkaError)
        assert isinstance(producer, AIOKafkaProducer)
    finally:
        kafka.resume()


async def test_metadata_is_asked_for_at_a_bounded_rate(servers: Servers) -> None:
    """Whoever asks again at once waits: a broker that starts has partitions without leaders for seconds."""
    producer = make_producer(KafkaSettings(bootstrap_servers=servers.kafka), "test")
    await producer.start()
    try:
        begin, asked = time.monotonic(), 0
        while time.monotonic() - begin < 0.5:
            await producer.client.force_metadata_update()
            asked += 1
        assert asked <= 7
    finally:
        await discard(producer)
