"""Each record counts once, whoever hands it over and however often."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.event_log.codec import LogRecord
from shared.projection.progress import Progress, SkippedError, fence
from tests.support.projecting import Projecting, projecting
from tests.support.records import record, span


@pytest.fixture
async def owner(database) -> AsyncIterator[Projecting]:
    async with projecting(database) as owner:
        yield owner


def five_records() -> list[LogRecord]:
    return [record([span(n, 1), span(n, 2, parent=1)], offset=n) for n in range(5)]


async def test_a_batch_applied_twice_counts_once(owner) -> None:
    await owner.fold(*five_records())
    once = await owner.dump()
    await owner.fold(*five_records())
    assert await owner.dump() == once
    assert await owner.count("spans") == 10
    assert (await owner.progress())[0].next_offset == 5


async def test_a_zombies_late_batch_changes_nothing_that_counts(owner, database) -> None:
    """It wakes up with records that the new owner has folded, and some that it has not."""
    records = five_records()
    await owner.fold(*records[:4])
    async with projecting(database) as zombie:
        await zombie.fold(*records[2:])
        await zombie.fold(*records[:3])
    assert await owner.count("spans") == 10
    assert await owner.pool.fetchval("SELECT sum(span_count) FROM traces") == 10
    assert (await owner.progress())[0].next_offset == 5


async def test_owners_and_zombies_at_once(database) -> None:
    """Several processes that all believe to own the partition."""
    records = [record([span(n % 7, n)], offset=n) for n in range(60)]

    async def own(seed: int) -> None:
        choose = random.Random(seed)
        async with projecting(database) as me:
            position = 0
            while position < len(records):
                position = min(position, (await me.progress()).get(0, Progress(0)).next_offset)
                size = choose.randint(1, 9)
                await me.fold(*records[position : position + size])
                position += size

    await asyncio.gather(*(own(seed) for seed in range(3)))
    async with projecting(database) as after:
        assert await after.count("spans") == 60
        assert await after.pool.fetchval("SELECT sum(span_count) FROM traces") == 60
        assert (await after.progress())[0].next_offset == 60


async def test_a_failed_transaction_leaves_rows_and_position_as_they_were(owner) -> None:

    async def fail() -> None:
        async with fence(owner.pool, "traces", five_records()) as fenced:
            await fenced.connection.execute("INSERT INTO projects (project_id, name) VALUES ('half', '')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await owner.count("projects") == 0
    assert (await owner.progress()).get(0, Progress(0)).next_offset == 0


async def test_a_hole_is_believed_only_when_asked_twice(owner) -> None:
    """A batch that begins after the position may have lost its first records on the way to us."""
    late = [record([span(1, 1)], offset=7)]
    with pytest.raises(SkippedError, match="does not begin at offset 0"):
        await fence(owner.pool, "traces", late).__aenter__()
    async with fence(owner.pool, "traces", late, hole_at=0) as fenced:
        assert list(fenced.fresh) == late
    assert (await owner.progress())[0].next_offset == 8


async def test_a_log_made_anew_halts(owner) -> None:
    """Its records would be taken for old ones, and dropped."""
    await owner.fold(*five_records())
    again = record([span(9, 9)], offset=2)
    await owner.fold(again)
    assert (await owner.progress())[0].halted_reason is None, "older than the last one folded: a redelivery"
    await owner.fold(replace(again, appended_at=again.appended_at + timedelta(days=1)))
    assert "the log was replaced" in ((await owner.progress())[0].halted_reason or "")
    assert await owner.count("spans") == 10
