"""Where spans are told again a partition's next batch is merged at once, without an attempt to copy that would fail."""

from collections.abc import AsyncIterator, Sequence

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from services.projections.traces.projection import SLOW_PATHS
from services.projections.traces.tables import NAME
from tests.support.projecting import Projecting, projecting
from tests.support.records import record, span


@pytest.fixture
async def owner(database) -> AsyncIterator[Projecting]:
    async with projecting(database) as owner:
        yield owner


def spans(trace: int) -> list[Span]:
    return [span(trace, 1), span(trace, 2, parent=1)]


def merged() -> float:
    return float(SLOW_PATHS.labels(NAME)._value.get())


async def expected_to_be_new(owner: Projecting, told: Sequence[Span], *, partition: int = 0) -> bool:
    prepared = await owner.projector._projection.prepare([record(told, partition=partition, offset=1000)])
    return prepared.packed is not None


async def test_the_next_batch_of_the_partition_is_merged_until_one_is_all_new(owner) -> None:
    before = merged()
    await owner.fold(record(spans(1), offset=0))
    assert await expected_to_be_new(owner, spans(2))
    await owner.fold(record([*spans(1), *spans(2)], offset=1))
    assert merged() == before + 1
    assert not await expected_to_be_new(owner, spans(3))
    assert await expected_to_be_new(owner, spans(3), partition=1)
    await owner.fold(record(spans(3), offset=2))
    assert merged() == before + 2
    assert await expected_to_be_new(owner, spans(4))
    await owner.fold(record(spans(4), offset=3))
    assert merged() == before + 2
    assert await owner.count("spans") == 8
    assert await owner.pool.fetchval("SELECT sum(span_count) FROM traces") == 8


async def test_what_is_merged_at_once_comes_to_the_same(owner, database) -> None:
    """One projector meets all records in one life, for another each of them is a surprise."""
    records = [record([*spans(n + 1), *spans(max(1, n))], offset=n) for n in range(8)]
    for each in records:
        await owner.fold(each)
    kept = await owner.dump()
    await owner.empty()
    for each in records:
        async with projecting(database) as surprised:
            await surprised.fold(each)
    assert await owner.dump() == kept
