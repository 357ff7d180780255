"""A batch of the log becomes rows: each partition's records in one fenced transaction, a few partitions at a time."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Generic

import asyncpg
from aiokafka import TopicPartition

from shared.event_log.assignment import Assignment
from shared.event_log.codec import Recorded
from shared.read_model.dead_letters import WHOLE_RECORD, DeadLetter
from shared.read_model.progress import HaltError, SkippedError, fence, halt
from shared.read_model.projecting import metrics
from shared.read_model.projecting.breaker import Breaker, Outcome
from shared.read_model.projecting.places import outside
from shared.read_model.projecting.projection import Prepared, Projection
from shared.runtime.failpoints import failpoint

IN_FLIGHT = 6
"""Transactions at a time: while Postgres works for some, Python folds for another. With 3 Python waited at times."""


class Projector(Generic[Prepared]):
    """Folds batches.

    Raises what may pass (a lost connection, a deadlock), so that the batch comes again; halts a partition that must not
    go on.
    """

    def __init__(self, pool: asyncpg.Pool, projection: Projection[Prepared], assignment: Assignment) -> None:
        self._pool = pool
        self._projection = projection
        self._assignment = assignment
        self._turn = asyncio.Semaphore(IN_FLIGHT)
        self._breakers: dict[TopicPartition, Breaker] = {}
        self._asked_again: dict[TopicPartition, int] = {}

    async def fold(self, records: Sequence[Recorded]) -> None:
        """Fold what is new in a batch, which may span partitions."""
        by_place = {(record.topic, record.partition, record.offset): record for record in records}
        in_order = [record for _, record in sorted(by_place.items(), key=itemgetter(0))]
        runs = [list(run) for _, run in groupby(in_order, attrgetter("topic", "partition"))]
        outcomes = await asyncio.gather(*map(self._fold_run, runs), return_exceptions=True)
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if errors:
            # The batch comes again from its first records, so a seek back made meanwhile is void.
            self._asked_again.clear()
            raise errors[0]

    async def _fold_run(self, run: Sequence[Recorded]) -> None:
        partition = TopicPartition(run[0].topic, run[0].partition)
        async with self._turn:
            try:
                with metrics.BATCH_SECONDS.labels(self._projection.name).time():
                    await self._commit_run(partition, run)
            except SkippedError as skipped:
                await self._read_again(partition, skipped.next_offset)
            except HaltError as reason:
                await self._halt(partition, str(reason))

    async def _commit_run(self, partition: TopicPartition, run: Sequence[Recorded]) -> None:
        projection = self._projection
        prepared = await projection.prepare(run)
        hole_at = self._asked_again.get(partition)
        async with fence(self._pool, projection.name, run, hole_at=hole_at) as fenced:
            fresh = fenced.fresh
            if not fresh:
                return
            if len(fresh) < len(run):
                prepared = await projection.prepare(fresh)
            letters = await projection.write(fenced.connection, fresh, prepared)
            outcomes = self._outcomes(fresh, letters)
            breaker = self._breakers.get(partition, Breaker()).after(outcomes)
            if breaker.tripped:
                raise HaltError(breaker.tripped)
        await failpoint("projection.committed")
        self._breakers[partition] = breaker
        self._asked_again.pop(partition, None)
        metrics.RECORDS.labels(projection.name).inc(len(fresh))
        metrics.ITEMS.labels(projection.name).inc(sum(outcome.good for outcome in outcomes))
        metrics.DEAD_LETTERS.labels(projection.name).inc(len(letters))

    def _outcomes(self, records: Sequence[Recorded], letters: Sequence[DeadLetter]) -> list[Outcome]:
        """How each record went, in order."""
        bad = Counter(letter.offset for letter in letters)
        whole = {letter.offset for letter in letters if letter.item == WHOLE_RECORD}
        return [
            Outcome(0, 1)
            if record.offset in whole or record.event is None
            else Outcome(max(0, self._projection.items(record.event) - bad[record.offset]), bad[record.offset])
            for record in records
        ]

    async def _read_again(self, partition: TopicPartition, next_offset: int) -> None:
        consumer = self._assignment.consumer
        starts, ends = await consumer.beginning_offsets([partition]), await consumer.end_offsets([partition])
        if reason := outside(next_offset, starts[partition], ends[partition]):
            await self._halt(partition, reason)
            return
        self._asked_again[partition] = next_offset
        self._assignment.read_again_from(partition, next_offset)

    async def _halt(self, partition: TopicPartition, reason: str) -> None:
        next_offset = await halt(self._pool, self._projection.name, partition.topic, partition.partition, reason)
        self._breakers.pop(partition, None)
        self._assignment.halt(partition, next_offset, reason)
