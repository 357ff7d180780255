"""A consumer whose membership of its group has ended for good is noticed, and its process ends to be started again."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
from aiokafka import AIOKafkaConsumer
from faststream.asgi import AsgiFastStream
from faststream.kafka import KafkaBroker

from services.all_in_one.ports import find_port
from shared.event_log.topics import SCORES
from shared.projection.lag_monitor import coordination_error, gave_up, give_up
from shared.projection.running import serve
from tests.support.polling import until
from tests.support.servers import Servers


async def test_a_consumer_whose_coordination_ended_by_an_error_is_noticed(servers: Servers) -> None:
    consumer = AIOKafkaConsumer(SCORES, bootstrap_servers=servers.kafka, group_id="test-gives-up")
    assert coordination_error(consumer) is None
    await consumer.start()
    try:
        assert not consumer._coordinator._coordination_task.done(), "aiokafka keeps its membership in this task"
        assert coordination_error(consumer) is None

        async def fail() -> None:
            raise RuntimeError("unable to perform operation on <TCPTransport closed=True>")

        consumer._coordinator._coordination_task.cancel()
        consumer._coordinator._coordination_task = asyncio.create_task(fail())
        await until(lambda: coordination_error(consumer) is not None)
        assert "TCPTransport closed" in str(coordination_error(consumer))
    finally:
        consumer._coordinator._coordination_task = asyncio.create_task(asyncio.sleep(0))
        await consumer.stop()


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda: give_up("the consumer has lost its group for good"), 1),
        (partial(signal.raise_signal, signal.SIGTERM), 0),
    ],
    ids=["given up", "asked to end"],
)
async def test_whoever_gives_up_ends_what_runs_and_exits_as_failed(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, end: Callable[[], None], code: int
) -> None:
    ended: list[str] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        yield
        ended.append("its resources")

    monkeypatch.setenv("LODESTREAM_METRICS_PORT", str(find_port()))
    try:
        assert await serve(AsgiFastStream(KafkaBroker(servers.kafka), lifespan=lifespan, after_startup=[end])) == code
    finally:
        gave_up.clear()
    assert ended == ["its resources"]
