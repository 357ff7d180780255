"""How far the log went when somebody first asked, and who has come as far: what is missing then is not on its way."""

from collections import OrderedDict

import asyncpg
from aiokafka import AIOKafkaConsumer

from shared.event_log.reading import log_range, range_consumer
from shared.read_model.progress import read_progress
from shared.runtime.settings import KafkaSettings

_MOST = 1024


class LogEnds:
    """Ends of topics, by whom they were asked for."""

    def __init__(self, kafka: KafkaSettings, pool: asyncpg.Pool) -> None:
        self._kafka, self._pool = kafka, pool
        self._consumer: AIOKafkaConsumer | None = None
        self._ends: OrderedDict[tuple[str, ...], dict[int, int]] = OrderedDict()

    async def aclose(self) -> None:
        """Disconnect."""
        if self._consumer is not None:
            await self._consumer.stop()
            self._consumer = None

    async def has_passed(self, projection: str, topic: str, *asker: str, partition: int | None = None) -> bool:
        """Whether a projection has folded all that the topic (or its partition) held when this was first asked.

        Raises KafkaError.
        """
        ends = await self._first_seen(topic, (topic, *asker))
        progress = await read_progress(self._pool, projection, topic)
        return all(
            (progress[number].next_offset if number in progress else 0) >= end
            for number, end in ends.items()
            if partition in (None, number)
        )

    async def _first_seen(self, topic: str, key: tuple[str, ...]) -> dict[int, int]:
        if key not in self._ends:
            if self._consumer is None:
                consumer = range_consumer(self._kafka, "lodestream-evaluator-ends")
                try:
                    await consumer.start()
                except BaseException:
                    await consumer.stop()
                    raise
                self._consumer = consumer
            _, self._ends[key] = await log_range(self._consumer, topic)
            while len(self._ends) > _MOST:
                self._ends.popitem(last=False)
        return self._ends[key]
