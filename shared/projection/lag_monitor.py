"""Keeps an eye on a projection: lag, halted partitions, and whether it moves."""

import asyncio
import signal
import threading
import time

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.event_log.assignment import Assignment
from shared.projection import metrics
from shared.projection.progress import Progress, halt, read_progress
from shared.projection.start_positions import outside

log = structlog.get_logger()

_LOOK_SECONDS = 2
gave_up = threading.Event()
"""Set once this process has given up."""
STUCK_SECONDS = 60
SILENT_SECONDS = 10


def coordination_error(consumer: AIOKafkaConsumer | None) -> str | None:
    """Why a consumer will never read again; None: it does, or is about to.

    aiokafka's task that keeps the membership of the group may end by an error that it does not expect (an event loop
    that raises on a closed connection). Every read then fails for ever, while the heartbeat goes on, so that nobody
    else is given the partitions. There is no public way to ask for it.
    """
    task = getattr(getattr(consumer, "_coordinator", None), "_coordination_task", None)
    if task is None or not task.done() or task.cancelled() or task.exception() is None:
        return None
    return f"the consumer has lost its group for good: {task.exception()}"


def give_up(reason: str) -> None:
    """End this process, to be started again by whoever supervises it: positions are with the rows, nothing is lost.

    It ends as by SIGTERM, but with exit code 1: supervisors that restart only what failed leave alone what ends with 0.
    """
    log.error("giving up", reason=reason)
    gave_up.set()
    signal.raise_signal(signal.SIGTERM)


class LagMonitor:
    """Looks every few seconds; what it last saw is what /health answers with."""

    def __init__(self, pool: asyncpg.Pool, projection: str, topic: str, assignment: Assignment) -> None:
        self._pool, self._projection, self._topic = pool, projection, topic
        self._assignment = assignment
        self._lag: dict[TopicPartition, int] = {}
        self._next_offsets: dict[TopicPartition, int] = {}
        self._moved_at = self._looked_at = time.monotonic()

    async def run(self) -> None:
        """Look until cancelled. A server that is away is no reason to stop looking."""
        while True:
            try:
                if reason := coordination_error(self._assignment.started_consumer):
                    give_up(reason)
                await self._look()
            except Exception as error:
                log.warning("could not look at the progress", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(_LOOK_SECONDS)

    @property
    def unhealthy_reason(self) -> str | None:
        """Why this process is not well; None: it reads what it was assigned, and moves or has caught up."""
        if self._assignment.assigned is None:
            return "has not joined its group yet"
        if self._assignment.halted:
            partition, reason = min(self._assignment.halted.items())
            return f"partition {partition.partition} is halted: {reason}"
        if waiting := self._assignment.assigned - self._assignment.read:
            return f"{len(waiting)} partitions wait for their positions"
        if (silent := time.monotonic() - self._looked_at) > SILENT_SECONDS:
            return f"Kafka or Postgres has not answered for {silent:.0f} s"
        if any(self._lag.values()) and time.monotonic() - self._moved_at > STUCK_SECONDS:
            return f"lags {sum(self._lag.values())} records behind and has not moved for {STUCK_SECONDS} s"
        return None

    async def _look(self) -> None:
        assigned = self._assignment.assigned
        if not assigned:
            self.saw({}, {})
            return
        consumer = self._assignment.consumer
        idle = sorted(filter(self._assignment.is_idle, self._assignment.read))
        handed_over = {partition: await consumer.position(partition) for partition in idle}
        # Before the ends are asked for: others may fold on meanwhile, and no position may seem to be beyond the log.
        stored = await read_progress(self._pool, self._projection, self._topic)
        starts, ends = await consumer.beginning_offsets(assigned), await consumer.end_offsets(assigned)
        progress = {partition: stored.get(partition.partition, Progress(0)) for partition in assigned}
        for partition, its in progress.items():
            if partition in self._assignment.halted and its.halted_reason is None:
                self._assignment.place()
            reason = outside(its.next_offset, starts[partition], ends[partition])
            if reason and partition in self._assignment.read:
                next_offset = await halt(self._pool, self._projection, partition.topic, partition.partition, reason)
                self._assignment.halt(partition, next_offset, reason)
        for partition, position in handed_over.items():
            if progress[partition].next_offset < position and self._assignment.is_idle(partition):
                # Handed over but neither folded nor handed over again: somebody lost the way back.
                self._assignment.read_again_from(partition, progress[partition].next_offset)
        next_offsets = {partition: its.next_offset for partition, its in progress.items()}
        self.saw(next_offsets, {partition: ends[partition] - offset for partition, offset in next_offsets.items()})

    def saw(self, next_offsets: dict[TopicPartition, int], lag: dict[TopicPartition, int]) -> None:
        """What has been seen: the position and the lag of each partition."""
        self._looked_at = time.monotonic()
        if next_offsets != self._next_offsets or not any(lag.values()):
            self._moved_at = time.monotonic()
        self._next_offsets, self._lag = next_offsets, lag
        metrics.LAG.clear()
        metrics.HALTED.clear()
        for partition, records in lag.items():
            metrics.LAG.labels(self._projection, partition.partition).set(records)
            metrics.HALTED.labels(self._projection, partition.partition).set(partition in self._assignment.halted)
