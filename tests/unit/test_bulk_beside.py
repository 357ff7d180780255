"""While several projects write, what is beyond fair rates is folded beside the batches, in small parts and in turn."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest
from aiokafka import TopicPartition

from shared.event_log.assignment import Assignment
from shared.event_log.codec import LogRecord
from shared.projection import projector as projecting
from shared.projection.projector import Projector
from shared.runtime.settings import ProjectionSettings
from tests.support.records import record, span

EXPRESS, BULK = (0, 1), (8, 9)


class Consumer:
    """Knows which partitions are paused."""

    def __init__(self) -> None:
        self.paused: set[int] = set()

    def pause(self, *partitions: TopicPartition) -> None:
        self.paused |= {partition.partition for partition in partitions}

    def resume(self, *partitions: TopicPartition) -> None:
        self.paused -= {partition.partition for partition in partitions}


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Folded(Projector[Any]):
    """Notes which parts are folded; those of the bulk only when they are let through."""

    def __init__(self) -> None:
        self.consumer = Consumer()
        assignment = Assignment()
        assignment.open(lambda: cast("Any", self.consumer), cast("Any", None))
        assignment.read = {TopicPartition("lodestream.traces", n) for n in (*EXPRESS, *BULK)}
        super().__init__(
            cast("Any", None), cast("Any", Spans()), assignment, ProjectionSettings(batch_items=20, bulk_share=0.75)
        )
        self.assignment = assignment
        self.parts: list[tuple[int, list[int]]] = []
        self.attempts = 0
        self.let_through = asyncio.Semaphore(0)
        self.failing = 0
        self.clock, self.rests = Clock(), list[float]()

    async def _rest(self, seconds: float) -> None:
        self.rests.append(seconds)

    async def _fold_part(self, part: Sequence[LogRecord]) -> bool:
        if part[0].partition in BULK and self.consumer.paused:
            await self.let_through.acquire()
        self.attempts += 1
        self.clock.now += 3 if part[0].partition in BULK else 0
        if self.failing:
            self.failing -= 1
            raise ConnectionError("away")
        self.parts.append((part[0].partition, [each.offset for each in part]))
        return True

    async def until(self, parts: int) -> None:
        """Let parts of the bulk through until so many parts are folded."""
        async with asyncio.timeout(10):
            while len(self.parts) < parts:
                self.let_through.release()
                await asyncio.sleep(0)


class Spans:
    """A projection that counts spans."""

    def items(self, event: Any) -> int:
        return int(event.spans_recorded.span_count)


@pytest.fixture
async def projector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Folded]:
    projector = Folded()
    monkeypatch.setattr(projecting, "time", projector.clock)
    yield projector
    await projector.assignment.close()


def records(partition: int, project: str) -> list[LogRecord]:
    """Four records of two spans each."""
    return [
        record([span(1, 1), span(1, 2)], partition=partition, offset=offset, project=project) for offset in range(4)
    ]


async def test_the_bulk_of_one_project_alone_is_folded_with_the_batch(projector: Folded) -> None:
    await projector.fold([*records(8, "greedy"), *records(0, "greedy"), *records(9, "greedy")])
    assert sorted(projector.parts) == [(0, [0, 1, 2, 3]), (8, [0, 1, 2, 3]), (9, [0, 1, 2, 3])]
    assert not projector.consumer.paused


async def test_others_do_not_wait_for_bulk(projector: Folded) -> None:
    await projector.fold([*records(8, "greedy"), *records(0, "modest"), *records(1, "modest")])
    assert sorted(projector.parts) == [(0, [0, 1, 2, 3]), (1, [0, 1, 2, 3])]
    assert projector.consumer.paused == {8}, "no more of it is handed over until it is folded"
    assert not projector.assignment.is_idle(TopicPartition("lodestream.traces", 8))
    await projector.fold(records(0, "modest"))
    assert len(projector.parts) == 3


async def test_bulk_is_folded_in_small_parts_its_partitions_in_turn(projector: Folded) -> None:
    await projector.fold([*records(8, "greedy"), *records(9, "greedy"), *records(0, "modest")])
    await projector.until(parts=9)
    assert projector.parts[1:] == [(partition, [offset]) for offset in range(4) for partition in BULK]
    assert set(projector.rests) == {1.0}, "three seconds of work, one of rest"
    assert not projector.consumer.paused
    assert projector.assignment.is_idle(TopicPartition("lodestream.traces", 8))


async def test_a_part_of_the_bulk_that_fails_is_folded_again_and_none_after_it_before(projector: Folded) -> None:
    await projector.fold(records(0, "modest"))
    projector.failing = 2
    await projector.fold(records(8, "greedy"))
    await projector.until(parts=5)
    assert projector.parts[1:] == [(8, [offset]) for offset in range(4)]
    assert projector.attempts == 1 + 2 + 4


async def test_a_partition_that_is_given_up_is_worked_on_no_more(projector: Folded) -> None:
    await projector.fold([*records(8, "greedy"), *records(0, "modest")])
    async with asyncio.timeout(10):
        await projector.assignment.on_partitions_revoked(set())
    projector.let_through.release()
    await asyncio.sleep(0)
    assert projector.parts == [(0, [0, 1, 2, 3])]
    assert projector.consumer.paused == {8}, "a partition that is not ours is not touched"
