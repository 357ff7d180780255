"""While a batch is folded, whatever else the process has to answer is answered; and the first batch is ready first."""

import asyncio
from datetime import date
from typing import Any, cast

from services.projections.traces.batch import FoldedBatch, fold_records, fold_records_in_steps
from services.projections.traces.partitions import Partitions
from services.projections.traces.projection import TracesProjection
from shared.event_log.codec import LogRecord
from tests.support.records import record, span

RECORDS, SPANS = 8, 200


class _AllThere:
    async def ensure(self, **_days: set[date]) -> None:
        """Every partition of the tables exists."""


def batch(first: int = 1) -> list[LogRecord]:
    return [
        record([span(trace=offset, number=number) for number in range(1, SPANS + 1)], offset=offset)
        for offset in range(first, first + RECORDS)
    ]


def test_steps_come_to_what_folding_at_once_comes_to() -> None:
    records, projected = batch(), FoldedBatch()
    steps = sum(1 for _ in fold_records_in_steps(records, projected))
    assert projected == fold_records(records)
    assert len(projected.spans) == RECORDS * SPANS
    assert steps >= RECORDS + RECORDS * SPANS / 50


async def test_others_get_their_turn_and_the_first_batch_is_ready_first() -> None:
    projection = TracesProjection(cast("Partitions", _AllThere()))
    turns, ready = 0, list[int]()

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def prepare(first: int) -> Any:
        prepared = await projection.prepare(batch(first))
        ready.append(turns)
        return prepared

    beside = asyncio.create_task(others())
    try:
        prepared = await asyncio.gather(prepare(1), prepare(101))
    finally:
        beside.cancel()
    assert ready[0] >= RECORDS
    assert ready[0] < 0.7 * ready[1]
    assert all(its.packed for its in prepared)
