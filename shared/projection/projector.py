"""A batch of the log becomes rows: each partition's records in one fenced transaction, a few partitions at a time."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Generic

import asyncpg
import structlog
from aiokafka import TopicPartition
from lodestream_proto.v1.event_pb2 import Event

from shared.event_log.assignment import Assignment
from shared.event_log.broker import BackOff
from shared.event_log.codec import LogRecord, read
from shared.event_log.topics import is_bulk
from shared.projection import metrics
from shared.projection.breaker import Breaker, Outcome
from shared.projection.dead_letters import WHOLE_RECORD, DeadLetter, set_aside, whole
from shared.projection.parking import park, parked_partitions, read_parked, split, unpark
from shared.projection.progress import Fenced, HaltError, SkippedError, fence, halt, held
from shared.projection.projection import Prepared, Projection
from shared.projection.start_positions import outside
from shared.runtime.failpoints import failpoint
from shared.runtime.memory import raise_if_out_of_memory
from shared.runtime.settings import ProjectionSettings
from shared.spans.blocks import opened_size

log = structlog.get_logger()

IN_FLIGHT = 6
"""Transactions at a time: while Postgres works for some, Python folds for another. With 3 Python waited at times."""
_PARTS_OF_BULK = 10  # how much smaller the transactions of bulk are while several projects write, one at a time
_LATELY_SECONDS = 30.0
ATTEMPTS = 5
"""Failures in a row after which a partition's batch is folded record by record."""
MAY_PASS = (
    OSError,  # TimeoutError is one
    MemoryError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that breaks in mid-query
    asyncpg.PostgresConnectionError,
    asyncpg.TransactionRollbackError,  # class 40
    asyncpg.SyntaxOrAccessError,  # class 42: the schema is not migrated yet
    asyncpg.InsufficientResourcesError,  # class 53
    asyncpg.ObjectNotInPrerequisiteStateError,  # class 55: a lock was not to be had
    asyncpg.OperatorInterventionError,  # class 57
)
"""Errors that say nothing about the data: the batch is folded again until it succeeds."""
SAMPLE_OFFSET = 2**62
"""Where the sample event would be in the log; no record is there."""
UNPARKED_AT_ONCE = 256


def in_parts(
    run: Sequence[LogRecord], settings: ProjectionSettings, *, items: Callable[[Event], int]
) -> Iterator[Sequence[LogRecord]]:
    """Records of one partition in parts of so many bytes, opened, and items as one transaction may have.

    A record that has more is a part by itself.
    """
    part: list[LogRecord] = []
    size = count = 0
    for record in run:
        its_size, its_count = opened_size(record), 0 if record.event is None else items(record.event)
        if part and (size + its_size > settings.batch_bytes or count + its_count > settings.batch_items):
            yield part
            part, size, count = [], 0, 0
        part.append(record)
        size += its_size
        count += its_count
    yield part


def _partition(run: Sequence[LogRecord]) -> TopicPartition:
    """The partition that the records of a run come from."""
    return TopicPartition(run[0].topic, run[0].partition)


class Projector(Generic[Prepared]):
    """Folds batches.

    Raises what may pass (a lost connection, a deadlock), so that the batch comes again; halts a partition that must not
    go on.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        projection: Projection[Prepared],
        assignment: Assignment,
        settings: ProjectionSettings | None = None,
    ) -> None:
        self._pool = pool
        self._settings = settings or ProjectionSettings()
        self._projection = projection
        self._assignment = assignment
        self._turn = asyncio.Semaphore(IN_FLIGHT)
        self._bulk_turn = asyncio.Lock()
        self._small = self._settings.model_copy(
            update={
                "batch_bytes": max(1, self._settings.batch_bytes // _PARTS_OF_BULK),
                "batch_items": max(1, self._settings.batch_items // _PARTS_OF_BULK),
            }
        )
        self._seen: dict[str, float] = {}
        self._breakers: dict[TopicPartition, Breaker] = {}
        self._asked_again: dict[TopicPartition, int] = {}
        self._failures: Counter[TopicPartition] = Counter()

    async def fold(self, records: Sequence[LogRecord]) -> None:
        """Fold what is new in a batch, which may span partitions.

        Each partition's records are folded in order, in transactions that are bounded by what their records open to.
        While several projects write, bulk is folded beside the batches and may go on after this returns: it costs
        the others at most a small part's time.
        """
        by_place = {(record.topic, record.partition, record.offset): record for record in records}
        in_order = [record for _, record in sorted(by_place.items(), key=itemgetter(0))]
        runs = [list(run) for _, run in groupby(in_order, attrgetter("topic", "partition"))]
        beside = list(filter(self._can_wait, runs)) if self._several_projects(in_order) else []
        for run in beside:
            self._assignment.work_beside(_partition(run), partial(self._fold_beside, run))
        partitions_beside = set(map(_partition, beside))
        outcomes = await asyncio.gather(
            *(self._fold_run(run) for run in runs if _partition(run) not in partitions_beside), return_exceptions=True
        )
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if errors:
            # The batch comes again from its first records, so a seek back made meanwhile is void.
            self._asked_again.clear()
            raise errors[0]

    def _can_wait(self, run: Sequence[LogRecord]) -> bool:
        """Whether a run is of the bulk, and the consumer can be kept from handing over more of its partition."""
        partition = _partition(run)
        return is_bulk(partition.topic, partition.partition) and partition in self._assignment.read

    def _several_projects(self, records: Sequence[LogRecord]) -> bool:
        """Whether records of more than one project have come lately."""
        now = time.monotonic()
        self._seen |= {record.event.project_id: now for record in records if record.event is not None}
        if len(self._seen) > 1:
            self._seen = {project: at for project, at in self._seen.items() if now - at < _LATELY_SECONDS}
        return len(self._seen) > 1

    async def _fold_run(self, run: Sequence[LogRecord]) -> None:
        for part in in_parts(run, self._settings, items=self._projection.items):
            async with self._turn:
                if not await self._fold_part(part):
                    return
        self._failures.pop(_partition(run), None)

    async def _fold_beside(self, run: Sequence[LogRecord]) -> None:
        """Fold a run of the bulk in smaller parts, with rests, the partitions in turn, each part until it succeeds."""
        back_off, share = BackOff(), self._settings.bulk_share
        for part in in_parts(run, self._small, items=self._projection.items):
            folded: bool | None = None
            while folded is None:
                try:
                    async with self._bulk_turn:
                        began = time.monotonic()
                        async with self._turn:
                            folded = await self._fold_part(part)
                        await self._rest((time.monotonic() - began) * (1 - share) / share)
                except Exception as error:
                    await back_off.failed(error)
            if not folded:
                return
            back_off.succeeded()
        self._failures.pop(_partition(run), None)

    async def _rest(self, seconds: float) -> None:
        """Leave the cores, the database's above all, to what others wait for."""
        await asyncio.sleep(seconds)

    async def _fold_part(self, part: Sequence[LogRecord]) -> bool:
        """Whether the part is folded, so that the next may be."""
        partition = _partition(part)
        try:
            with metrics.BATCH_SECONDS.labels(self._projection.name).time():
                await self._commit_or_isolate(partition, part)
        except SkippedError as skipped:
            await self._read_again(partition, skipped.next_offset)
            return False
        except HaltError as reason:
            await self._halt(partition, str(reason), part[-1].offset + 1)
            return False
        return True

    async def _commit_or_isolate(self, partition: TopicPartition, run: Sequence[LogRecord]) -> None:
        """Commit a run; one that fails again and again, record by record, so that what is at fault costs only itself.

        Raises what may pass, and everything while the run has not failed ATTEMPTS times.
        """
        try:
            await self._commit(partition, run)
        except (SkippedError, HaltError, *MAY_PASS):
            raise
        except Exception:
            self._failures[partition] += 1
            if self._failures[partition] < ATTEMPTS:
                raise
            for record in run:
                await self._commit_alone(partition, record)

    async def _commit_alone(self, partition: TopicPartition, record: LogRecord) -> None:
        try:
            await self._commit(partition, [record])
        except (SkippedError, HaltError, *MAY_PASS):
            raise
        except Exception as error:
            raise_if_out_of_memory(error)
            log.exception("a record fails again and again", topic=partition.topic, partition=partition.partition,
                          offset=record.offset)  # fmt: skip
            await self._commit(partition, [record], fault=error)

    async def _commit(
        self, partition: TopicPartition, run: Sequence[LogRecord], *, fault: Exception | None = None
    ) -> None:
        """Fold a run in one transaction; with `fault`, set it aside as a whole, for that reason."""
        projection = self._projection
        prepared = None if fault else await self._prepare(run)
        hole_at = self._asked_again.get(partition)
        async with fence(self._pool, projection.name, run, hole_at=hole_at) as fenced:
            fresh = fenced.fresh
            if not fresh:
                return
            if fault:
                if await self._sample_fails(fenced.connection, partition):
                    raise fault
                letters = [whole(record, f"{type(fault).__name__}: {fault}") for record in fresh]
                await set_aside(fenced.connection, projection.name, letters)
            else:
                if len(fresh) < len(run):
                    prepared = await self._prepare(fresh)
                letters = await self._write(fenced.connection, fresh, prepared)
            outcomes = self._outcomes(fresh, letters)
            breaker = self._breakers.get(partition, Breaker()).after(outcomes)
            await self._stop_if_ours(fenced, partition, breaker, letters)
        await failpoint("projection.committed")
        self._breakers[partition] = breaker
        self._asked_again.pop(partition, None)
        metrics.RECORDS.labels(projection.name).inc(len(fresh))
        metrics.ITEMS.labels(projection.name).inc(sum(outcome.good for outcome in outcomes))
        metrics.DEAD_LETTERS.labels(projection.name).inc(len(letters))

    async def _prepare(self, records: Sequence[LogRecord]) -> Prepared | None:
        known, _ = split(records)
        return await self._projection.prepare(known) if known else None

    async def _write(
        self, connection: asyncpg.Connection, records: Sequence[LogRecord], prepared: Prepared | None
    ) -> list[DeadLetter]:
        """Write what is known and park what is not; returns what was set aside."""
        known, unknown = split(records)
        if unknown:
            await park(connection, self._projection.name, unknown)
            metrics.PARKED.labels(self._projection.name).inc(len(unknown))
            log.warning("events of an unknown kind are parked: a newer gateway writes them; upgrade this process",
                        topic=unknown[0].topic, partition=unknown[0].partition, records=len(unknown))  # fmt: skip
        return await self._projection.write(connection, known, prepared) if prepared is not None else []

    async def _stop_if_ours(
        self, fenced: Fenced, partition: TopicPartition, breaker: Breaker, letters: Sequence[DeadLetter]
    ) -> None:
        """Raise HaltError when what could not be folded is our own fault, unless an operator lets it be set aside."""
        reason = breaker.tripped
        if reason is None and breaker.suspicious and await self._sample_fails(fenced.connection, partition):
            reason = breaker.suspicious
        if reason is None:
            return
        if fenced.fresh[-1].offset >= fenced.set_aside_until:
            raise HaltError(reason)
        log.warning("set aside, as an operator asked, instead of halting", topic=partition.topic,
                    partition=partition.partition, until=fenced.set_aside_until, reason=reason,
                    dead_letters=len(letters))  # fmt: skip

    async def _sample_fails(self, connection: asyncpg.Connection, partition: TopicPartition) -> bool:
        """Whether an event that must always fold does not: then no data is at fault. Leaves nothing behind."""
        event = self._projection.sample()
        record = LogRecord(
            partition.topic, partition.partition, SAMPLE_OFFSET, datetime.now(UTC), event.SerializeToString(), event
        )
        savepoint = connection.transaction()
        await savepoint.start()
        try:
            prepared = await self._projection.prepare([record])
            return bool(await self._projection.write(connection, [record], prepared))
        except MAY_PASS:
            raise
        except Exception as error:
            log.warning(
                "our own sample can't be folded", topic=partition.topic, error=f"{type(error).__name__}: {error}"
            )
            return True
        finally:
            await savepoint.rollback()

    def _outcomes(self, records: Sequence[LogRecord], letters: Sequence[DeadLetter]) -> list[Outcome]:
        """How each record went, in order."""
        bad = Counter(letter.offset for letter in letters)
        as_a_whole = {letter.offset for letter in letters if letter.item == WHOLE_RECORD}
        return [self._outcome(record, bad[record.offset], record.offset in as_a_whole) for record in records]

    def _outcome(self, record: LogRecord, bad: int, as_a_whole: bool) -> Outcome:
        if record.event is None:
            return Outcome("", record.appended_at, 0, 1)
        good = 0 if as_a_whole else max(0, self._projection.items(record.event) - bad)
        return Outcome(record.event.project_id, record.appended_at, good, 1 if as_a_whole else bad)

    async def unpark(self) -> None:
        """Fold the parked records that this version knows; others stay. Once, before the log is read."""
        name, topic = self._projection.name, self._projection.topic
        for partition in await parked_partitions(self._pool, name, topic):
            after: int | None = -1
            while after is not None:
                after = await self._unpark_some(partition, after)

    async def _unpark_some(self, partition: int, after: int) -> int | None:
        """Some parked records behind an offset; returns the last one's offset, None when there were none."""
        name, topic = self._projection.name, self._projection.topic
        async with held(self._pool, name, topic, partition) as connection:
            rows = await read_parked(connection, name, topic, partition, after=after, limit=UNPARKED_AT_ONCE)
            records = [
                read(topic, partition, row["offset"], int(row["appended_at"].timestamp() * 1000), bytes(row["raw"]))
                for row in rows
            ]
            known, _ = split(records)
            if known:
                await self._projection.write(connection, known, await self._projection.prepare(known))
                await unpark(connection, name, topic, partition, [record.offset for record in known])
                log.info("parked events folded", topic=topic, partition=partition, records=len(known))
        return rows[-1]["offset"] if rows else None

    async def _read_again(self, partition: TopicPartition, next_offset: int) -> None:
        consumer = self._assignment.consumer
        starts, ends = await consumer.beginning_offsets([partition]), await consumer.end_offsets([partition])
        if reason := outside(next_offset, starts[partition], ends[partition]):
            await self._halt(partition, reason)
            return
        self._asked_again[partition] = next_offset
        self._assignment.read_again_from(partition, next_offset)

    async def _halt(self, partition: TopicPartition, reason: str, until: int | None = None) -> None:
        """Stop a partition; `until` is behind the last record of the batch that is why."""
        name = self._projection.name
        next_offset = await halt(self._pool, name, partition.topic, partition.partition, reason, until=until)
        self._breakers.pop(partition, None)
        self._assignment.halt(partition, next_offset, reason)
