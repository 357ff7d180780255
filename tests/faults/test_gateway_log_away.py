"""A log that is away costs writers seconds and the gateway nothing: refused with RetryInfo, taken when it is back."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import psutil
import pytest

from services.all_in_one.processes import Process
from shared.event_log.topics import create_topics
from shared.runtime.probe import grpc_serves
from shared.runtime.settings import KafkaSettings
from tests.conftest import PrivateServer, RunningService, StartService
from tests.support.gateway import MODULE, Door, metric, new_key, opened, refusal, request_of, retry_delay, spans_in
from tests.support.polling import until
from tests.support.records import span

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Stand:
    """A gateway on a Kafka of its own."""

    door: Door
    kafka: Process
    gateway: RunningService

    async def write(self, trace: int, size: int = 10) -> grpc.aio.AioRpcError | float:
        """How long an accepted request took, or its error."""
        begin = time.monotonic()
        request = request_of(span(trace, 1, attributes={"input.value": os.urandom(size // 2).hex()}))
        try:
            await self.door.export(request)
        except grpc.aio.AioRpcError as error:
            return error
        return time.monotonic() - begin


@pytest.fixture
async def stand(private_kafka: PrivateServer, database: str, service: StartService) -> AsyncIterator[Stand]:
    kafka = await private_kafka()
    key = await new_key(database)
    gateway = await service(MODULE, LODESTREAM_POSTGRES=database, LODESTREAM_KAFKA=kafka.command.address)
    async with opened(gateway.address, key, dsn=database, kafka=kafka.command.address) as door:
        yield Stand(door, kafka, gateway)


async def accepted(stand: Stand) -> bool:
    return isinstance(await stand.write(99), float)


async def test_a_frozen_broker_is_told_within_ten_seconds_and_costs_no_memory(stand: Stand) -> None:
    assert isinstance(await stand.write(1), float)
    process = psutil.Process(stand.gateway.process.pid)
    before = process.memory_info().rss
    stand.kafka.pause()
    begin = time.monotonic()
    outcomes: list[grpc.aio.AioRpcError | float] = []
    took: list[float] = []
    number = 1
    while time.monotonic() - begin < 15:
        number += 1
        called = time.monotonic()
        outcomes += await asyncio.gather(*(stand.write(1000 * number + n, 400_000) for n in range(8)))
        took.append(time.monotonic() - called)
        await asyncio.sleep(0.05)
    errors = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
    assert len(errors) == len(outcomes) > 100, "nothing is acknowledged that the log has not"
    assert {error.code() for error in errors} == {grpc.StatusCode.UNAVAILABLE}
    assert all(retry_delay(error) >= 1 for error in errors)
    assert max(took) < 10.5
    assert sorted(took)[len(took) // 2] < 0.5, "once the log is known to be away, refusals are immediate"
    assert process.memory_info().rss - before < 50 * MIB
    assert await grpc_serves(stand.gateway.address), "reads are still served"

    stand.kafka.resume()
    pid = stand.gateway.process.pid
    await until(lambda: accepted(stand), deadline=20, what="writes are taken again")
    assert stand.gateway.process.pid == pid
    await until(
        lambda: metric(stand.gateway.metrics, "lodestream_gateway_append_bytes") == 0, what="nothing is in flight"
    )


async def test_a_killed_broker_is_found_again(stand: Stand) -> None:
    assert isinstance(await stand.write(1), float)
    stand.kafka.kill()
    begin = time.monotonic()
    error = await stand.write(2)
    assert isinstance(error, grpc.aio.AioRpcError)
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert retry_delay(error) >= 1
    assert time.monotonic() - begin < 10.5
    await stand.kafka.ended()
    await stand.kafka.start()
    await until(lambda: accepted(stand), deadline=30, what="writes are taken again")


async def test_a_gateway_starts_without_a_broker_and_finds_it_later(
    private_kafka: PrivateServer, database: str, service: StartService
) -> None:
    kafka = await private_kafka()
    address = kafka.command.address
    await kafka.stop()
    key = await new_key(database)
    gateway = await service(MODULE, LODESTREAM_POSTGRES=database, LODESTREAM_KAFKA=address)
    async with opened(gateway.address, key, dsn=database, kafka=address) as door:
        error = await refusal(door.export(request_of(span(1, 1))))
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert retry_delay(error) >= 1
        assert "Kafka does not answer" in (error.details() or "")
        await kafka.start()
        await create_topics(KafkaSettings(bootstrap_servers=address))
        await until(lambda: accepted(Stand(door, kafka, gateway)), deadline=30, what="writes are taken")
        _, token = await door.export(request_of(span(5, 1)))
        (record,) = await door.at(token)
        assert [found.span_id for found in spans_in(record)] == [span(5, 1).span_id]


async def test_the_callers_deadline_is_kept(stand: Stand) -> None:
    stand.kafka.pause()
    try:
        begin = time.monotonic()
        error = await refusal(stand.door.export(request_of(span(1, 1)), timeout=2))
        assert time.monotonic() - begin < 2
        assert error.code() == grpc.StatusCode.UNAVAILABLE, "our answer, with RetryInfo, before the client gives up"
        assert retry_delay(error) >= 1
    finally:
        stand.kafka.resume()


async def test_sigterm_ends_a_gateway_whose_log_is_frozen(stand: Stand) -> None:
    stand.kafka.pause()
    try:
        call = asyncio.create_task(stand.write(1))
        in_flight = "lodestream_gateway_append_bytes"
        await until(lambda: metric(stand.gateway.metrics, in_flight) > 0, what="a record is in flight")
        begin = time.monotonic()
        await stand.gateway.process.stop()
        assert time.monotonic() - begin < stand.gateway.process.command.grace, "it ended by itself"
        assert await stand.gateway.process.ended() == 0
        assert isinstance(await call, grpc.aio.AioRpcError)
    finally:
        stand.kafka.resume()
