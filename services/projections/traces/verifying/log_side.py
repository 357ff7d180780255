"""The log, folded telling by telling, up to the positions; and single records of it again."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.projections.traces.folding.fold import Version, fold, version
from services.projections.traces.folding.projection import block_of, sources_in
from services.projections.traces.folding.rows import BlockRow, Part, SpanKey, SpanRow
from services.projections.traces.storing.copy_format import microseconds
from shared.event_log.codec import Recorded
from shared.event_log.reading import log_range, range_consumer, read_range
from shared.event_log.topics import TRACES
from shared.read_model.blocks import ReceivedSpan
from shared.runtime.settings import KafkaSettings

_NEAR = 50
"""Records that are no farther apart are read in one go."""


@dataclass(frozen=True, slots=True)
class Telling:
    """One span of a record: the row it would be if nothing else told of it; None: it can't be folded."""

    index: int
    part: Part
    key: SpanKey | None
    row: SpanRow | None


@dataclass(frozen=True, slots=True)
class Log:
    """The topic."""

    consumer: AIOKafkaConsumer
    starts: dict[int, int]
    ends: dict[int, int]

    async def records(self, partition: int, end: int) -> AsyncIterator[list[Recorded]]:
        """A partition from its beginning up to an offset, in pieces."""
        begin = self.starts[partition]
        if begin < end:
            async for piece in read_range(self.consumer, TopicPartition(TRACES, partition), begin, end):
                yield piece

    async def sources(self, wanted: Iterable[Part]) -> dict[Part, tuple[SpanKey, Version]]:
        """These tellings again."""
        by_partition: dict[int, dict[int, list[Part]]] = {}
        for part in wanted:
            by_partition.setdefault(part.partition, {}).setdefault(part.offset, []).append(part)
        found: dict[Part, tuple[SpanKey, Version]] = {}
        for partition, offsets in by_partition.items():
            for first, last in _stretches(sorted(offsets)):
                pieces = read_range(self.consumer, TopicPartition(TRACES, partition), first, last + 1)
                async for piece in pieces:
                    for record in piece:
                        if parts := offsets.get(record.offset):
                            found.update(_again(record, parts))
        return found


@asynccontextmanager
async def opened(kafka: KafkaSettings) -> AsyncIterator[Log]:
    """The log as far as it goes now."""
    consumer = range_consumer(kafka, "lodestream-verify")
    await consumer.start()
    try:
        yield Log(consumer, *await log_range(consumer, TRACES))
    finally:
        await consumer.stop()


def tellings(block: BlockRow, sources: Sequence[ReceivedSpan]) -> Iterator[Telling]:
    """The spans of a record, each folded by itself."""
    received_at_us = microseconds(block.received_at)
    for source in sources:
        part = Part(received_at_us, block.partition, block.offset, source.index)
        key: SpanKey | None = None
        row: SpanRow | None = None
        try:
            told = version(part, source)
            key = told.key(block.project_id)
            row = fold(key, [told])
        except Exception:  # whatever trips the fold makes a dead letter
            row = None
        yield Telling(source.index, part, key, row)


def opened_block(record: Recorded) -> tuple[BlockRow, list[ReceivedSpan]] | None:
    """A record's block and its spans; None for one that can't be read, which is a dead letter as a whole."""
    try:
        block = block_of(record)
        microseconds(block.received_at)
        return block, sources_in(block)
    except Exception:
        return None


def _again(record: Recorded, parts: Sequence[Part]) -> Iterator[tuple[Part, tuple[SpanKey, Version]]]:
    block = block_of(record)
    sources = sources_in(block)
    for part in parts:
        told = version(part, sources[part.span_index])
        yield part, (told.key(block.project_id), told)


def _stretches(offsets: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of those that are near each other."""
    first = last = offsets[0]
    for offset in offsets[1:]:
        if offset - last > _NEAR:
            yield first, last
            first = offset
        last = offset
    yield first, last
