"""The log, folded revision by revision, up to the positions; and single records of it again."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.projections.traces.batch import block_of, sources_in
from services.projections.traces.copy_format import microseconds
from services.projections.traces.fold import SpanRevision, fold, read_revision
from services.projections.traces.rows import BlockRow, SpanKey, SpanRef, SpanRow
from shared.event_log.codec import LogRecord
from shared.event_log.reading import log_range, range_consumer, read_range
from shared.event_log.topics import TRACES
from shared.runtime.settings import KafkaSettings
from shared.spans.blocks import ReceivedSpan

_NEAR = 50
"""Records that are no farther apart are read in one go."""


@dataclass(frozen=True, slots=True)
class LoneRevision:
    """One span of a record, with the row that it would be without other revisions; None: it can't be folded."""

    index: int
    ref: SpanRef
    key: SpanKey | None
    row: SpanRow | None


@dataclass(frozen=True, slots=True)
class Log:
    """The topic."""

    consumer: AIOKafkaConsumer
    starts: dict[int, int]
    ends: dict[int, int]

    async def records(self, partition: int, end: int) -> AsyncIterator[list[LogRecord]]:
        """A partition from its beginning up to an offset, in pieces."""
        begin = self.starts[partition]
        if begin < end:
            async for piece in read_range(self.consumer, TopicPartition(TRACES, partition), begin, end):
                yield piece

    async def revisions(self, wanted: Iterable[SpanRef]) -> dict[SpanRef, tuple[SpanKey, SpanRevision]]:
        """Read these revisions again."""
        by_partition: dict[int, dict[int, list[SpanRef]]] = {}
        for ref in wanted:
            by_partition.setdefault(ref.partition, {}).setdefault(ref.offset, []).append(ref)
        revisions: dict[SpanRef, tuple[SpanKey, SpanRevision]] = {}
        for partition, offsets in by_partition.items():
            for first, last in _stretches(sorted(offsets)):
                pieces = read_range(self.consumer, TopicPartition(TRACES, partition), first, last + 1)
                async for piece in pieces:
                    for record in piece:
                        if refs := offsets.get(record.offset):
                            revisions.update(_again(record, refs))
        return revisions


@asynccontextmanager
async def opened(kafka: KafkaSettings) -> AsyncIterator[Log]:
    """The log as far as it goes now."""
    consumer = range_consumer(kafka, "lodestream-verify")
    await consumer.start()
    try:
        yield Log(consumer, *await log_range(consumer, TRACES))
    finally:
        await consumer.stop()


def fold_each(block: BlockRow, sources: Sequence[ReceivedSpan]) -> Iterator[LoneRevision]:
    """Fold each span of a record by itself."""
    received_at_us = microseconds(block.received_at)
    for source in sources:
        ref = SpanRef(received_at_us, block.partition, block.offset, source.index)
        key: SpanKey | None = None
        row: SpanRow | None = None
        try:
            revision = read_revision(ref, source)
            key = revision.key(block.project_id)
            row = fold(key, [revision])
        except Exception:  # whatever trips the fold makes a dead letter
            row = None
        yield LoneRevision(source.index, ref, key, row)


def opened_block(record: LogRecord) -> tuple[BlockRow, list[ReceivedSpan]] | None:
    """A record's block and its spans; None for one that can't be read, which is a dead letter as a whole."""
    try:
        block = block_of(record)
        microseconds(block.received_at)
        return block, sources_in(block)
    except Exception:
        return None


def _again(record: LogRecord, refs: Sequence[SpanRef]) -> Iterator[tuple[SpanRef, tuple[SpanKey, SpanRevision]]]:
    block = block_of(record)
    sources = sources_in(block)
    for ref in refs:
        revision = read_revision(ref, sources[ref.span_index])
        yield ref, (revision.key(block.project_id), revision)


def _stretches(offsets: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of those that are near each other."""
    first = last = offsets[0]
    for offset in offsets[1:]:
        if offset - last > _NEAR:
            yield first, last
            first = offset
        last = offset
    yield first, last
