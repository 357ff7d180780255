"""A consumer whose membership of its group has ended for good is noticed, and its process ends to be started again."""

import asyncio
import signal

from aiokafka import AIOKafkaConsumer

from shared.event_log.topics import SCORES
from shared.read_model.projecting.watch import coordination_error, give_up
from tests.polling import until
from tests.servers import Servers


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


def test_giving_up_is_a_signal_that_ends_what_runs_first() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))
    try:
        give_up("the consumer has lost its group for good")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
