"""Which partitions a consumer holds, each read from where the read model says, whatever the group's offsets are.

aiokafka goes on fetching while the listener of an assignment runs. So a partition is paused before the first await and
resumed only after the seek. The seek happens in a task of its own: heartbeats wait for the listener.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from shared.runtime.failpoints import failpoint

log = structlog.get_logger()

_DRAIN_SECONDS = 30
_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class StartPosition:
    """Where to read a partition on; with `halted`, it is not read until somebody decides."""

    next_offset: int
    halted: str | None = None


Find = Callable[[AIOKafkaConsumer, Collection[TopicPartition]], Awaitable[Mapping[TopicPartition, StartPosition]]]


class Assignment(ConsumerRebalanceListener):  # type: ignore[misc]
    """The partitions of one consumer: paused, placed, read; or halted. Give it to the subscriber as its listener."""

    def __init__(self) -> None:
        self.read: set[TopicPartition] = set()
        """Placed and being read."""
        self.halted: dict[TopicPartition, str] = {}
        self.assigned: frozenset[TopicPartition] | None = None
        """None: the group has not dealt yet."""
        self._consumer: Callable[[], AIOKafkaConsumer | None] = lambda: None
        self._find: Find | None = None
        self._placing: asyncio.Task[None] | None = None
        self._beside: dict[TopicPartition, asyncio.Task[None]] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def open(self, consumer: Callable[[], AIOKafkaConsumer | None], find: Find) -> None:
        """Name the consumer and how places are found, before the broker starts."""
        self._consumer, self._find = consumer, find

    @property
    def started_consumer(self) -> AIOKafkaConsumer | None:
        """The consumer of these partitions; None before the broker starts."""
        return self._consumer()

    @property
    def consumer(self) -> AIOKafkaConsumer:
        """The consumer of these partitions."""
        consumer = self._consumer()
        assert consumer is not None, "open() names the consumer before the broker starts"
        return consumer

    async def close(self) -> None:
        """End what is under way, but a batch; nothing is assigned any more."""
        self.assigned, self.read, self.halted = None, set(), {}
        under_way = [*self._beside.values(), *([self._placing] if self._placing else [])]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        self._placing = None
        self._beside.clear()

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """A batch is being folded: partitions are given up only after it."""
        self._idle.clear()
        try:
            yield
        finally:
            self._idle.set()

    def work_beside(self, partition: TopicPartition, work: Callable[[], Awaitable[None]]) -> None:
        """Work on records of a partition beside the batches: nothing more of it is handed over until that ends.

        Giving the partition up cancels the work. It must handle its own errors.
        """
        self.consumer.pause(partition)
        self._beside[partition] = asyncio.create_task(self._until_done(partition, work))

    async def _until_done(self, partition: TopicPartition, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        finally:
            self._beside.pop(partition, None)
            if partition in self.read:
                self.consumer.resume(partition)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Drain first: the next owner starts where our last transaction ends."""
        await self.close()
        try:
            await asyncio.wait_for(self._idle.wait(), _DRAIN_SECONDS)
        except TimeoutError:
            log.warning("gave partitions up with a batch in flight; its transaction is fenced", partitions=len(revoked))
        await failpoint("assignment.revoked")

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Pause, then place."""
        self.consumer.pause(*assigned)
        self.assigned = frozenset(assigned)
        await failpoint("assignment.assigned")
        self.place()

    def place(self) -> None:
        """Find the places of what is assigned and not read, now or as soon as the servers answer."""
        if self._placing is None or self._placing.done():
            self._placing = asyncio.create_task(self._place())

    def is_idle(self, partition: TopicPartition) -> bool:
        """Whether nothing that was handed over of a partition is being worked on."""
        return self._idle.is_set() and partition not in self._beside

    def read_again_from(self, partition: TopicPartition, offset: int) -> None:
        """Go back (or on) to an offset."""
        if partition in self.read:
            self.consumer.seek(partition, offset)

    def halt(self, partition: TopicPartition, offset: int, reason: str) -> None:
        """Read no further than this offset. The group's offset stays there too."""
        if partition not in (self.assigned or ()):
            return
        self.consumer.pause(partition)
        self.consumer.seek(partition, offset)
        self.read.discard(partition)
        if self.halted.get(partition) != reason:
            log.error("partition halted", topic=partition.topic, partition=partition.partition, reason=reason)
        self.halted[partition] = reason

    async def _place(self) -> None:
        assert self._find is not None
        while waiting := (self.assigned or frozenset()) - self.read:
            try:
                places = await self._find(self.consumer, waiting)
                for partition, place in places.items():
                    self._put(partition, place)
            except Exception as error:
                log.warning("partitions stay paused", partitions=len(waiting), error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    def _put(self, partition: TopicPartition, place: StartPosition) -> None:
        if place.halted:
            self.halt(partition, place.next_offset, place.halted)
            return
        self.halted.pop(partition, None)
        self.consumer.seek(partition, place.next_offset)
        self.consumer.resume(partition)
        self.read.add(partition)
