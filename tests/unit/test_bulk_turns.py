"""While several projects write, what is beyond fair rates is folded in small parts, and for a limited time."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from aiokafka import TopicPartition

from shared.event_log.assignment import Assignment
from shared.event_log.codec import Recorded
from shared.read_model.projecting import projector
from shared.read_model.projecting.projector import Projector
from shared.runtime.settings import ProjectionSettings
from tests.records import record, span

EXPRESS, BULK = (0, 1), (8, 9)


class Parts(Projector[Any]):
    """Notes what would be folded, each part taking a second of a clock."""

    def __init__(self, clock: "Clock") -> None:
        assignment = Places(self)
        assignment.read = {TopicPartition("lodestream.traces", n) for n in (*EXPRESS, *BULK)}
        super().__init__(
            cast("Any", None), cast("Any", Spans()), assignment, ProjectionSettings(batch_items=10, turn_seconds=1.5)
        )
        self.clock, self.parts = clock, list[tuple[int, list[int]]]()
        self.again: dict[int, int] = {}

    async def _fold_part(self, part: Sequence[Recorded]) -> bool:
        self.parts.append((part[0].partition, [each.offset for each in part]))
        await asyncio.sleep(0)
        self.clock.now += 1
        return True


class Places(Assignment):
    """Notes what is to be read again."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self._parts = parts

    def read_again_from(self, partition: TopicPartition, offset: int) -> None:
        self._parts.again[partition.partition] = offset


class Spans:
    """A projection that counts spans."""

    def items(self, event: Any) -> int:
        return int(event.spans_recorded.span_count)


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def folding(monkeypatch: pytest.MonkeyPatch) -> Parts:
    clock = Clock()
    monkeypatch.setattr(projector, "time", clock)
    return Parts(clock)


def records(partition: int, project: str, *, offset: int = 0) -> list[Recorded]:
    spans = [span(1, n) for n in range(1, 3)]
    return [record(spans, partition=partition, offset=offset + n, project=project) for n in range(4)]


async def test_the_bulk_of_one_project_alone_is_folded_at_once(folding: Parts) -> None:
    await folding.fold([*records(8, "greedy"), *records(0, "greedy"), *records(9, "greedy")])
    assert sorted(folding.parts) == [(0, [0, 1, 2, 3]), (8, [0, 1, 2, 3]), (9, [0, 1, 2, 3])]
    assert not folding.again


async def test_beside_others_what_bulk_has_not_begun_in_time_is_read_again(folding: Parts) -> None:
    await folding.fold([*records(8, "greedy"), *records(9, "greedy"), *records(0, "modest"), *records(1, "modest")])
    express, bulk = folding.parts[:2], folding.parts[2:]
    assert sorted(express) == [(0, [0, 1, 2, 3]), (1, [0, 1, 2, 3])], "others come first"
    assert bulk, "something of the bulk gets on in any case"
    assert all(len(offsets) == 1 for _, offsets in bulk)
    folded = {partition: [each[0] for where, each in bulk if where == partition] for partition in BULK}
    for partition in BULK:
        assert folded[partition] == list(range(len(folded[partition])))
        assert folding.again[partition] == len(folded[partition])


async def test_bulk_partitions_take_turns(folding: Parts) -> None:
    await folding.fold([*records(8, "greedy"), *records(9, "greedy"), *records(0, "modest")])
    begun: set[int] = set()
    for _ in range(4):
        folding.parts.clear()
        await folding.fold([*records(8, "greedy"), *records(9, "greedy"), *records(0, "modest")])
        begun |= {partition for partition, _ in folding.parts}
    assert begun == {0, 8, 9}
