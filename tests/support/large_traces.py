"""Large traces, folded by the projection's own code without a log: thousands of spans in a second."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from services.projections.traces.partitions import Partitions
from services.projections.traces.projection import TracesProjection, write_batch
from services.projections.traces.tables import prepare_connection
from shared.storage.postgres import connect_pool
from tests.support.records import record, span

BEGAN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
_SPANS_OF_A_RECORD = 5_000


async def fold(dsn: str, spans: Sequence[Span], *, project: str, spans_of_a_record: int = _SPANS_OF_A_RECORD) -> None:
    """Fold these spans, some in a record."""
    pool: asyncpg.Pool = await connect_pool(dsn, application="test", init=prepare_connection, max_size=2)
    try:
        projection = TracesProjection(Partitions(pool))
        for number, begin in enumerate(range(0, len(spans), spans_of_a_record)):
            part = spans[begin : begin + spans_of_a_record]
            offset = int.from_bytes(part[0].trace_id) * 10_000 + number
            batch = [record(part, project=project, offset=offset, received_at=BEGAN)]
            projected = await projection.prepare(batch)
            async with pool.acquire() as connection, connection.transaction():
                assert not await write_batch(connection, batch, projected)
    finally:
        await pool.close()


def wide(trace: int, count: int, *, errors: Sequence[int] = ()) -> list[Span]:
    """A root with `count` - 1 descendants: agents of a hundred steps each, one after the other; some steps fail."""
    steps = 100
    spans = [span(trace, 1, name="crawl", end_ms=count * 10, day=BEGAN)]
    for number in range(2, count + 1):
        leads = (number - 2) % steps == 0
        agent = number - (number - 2) % steps
        start = (number - 2) * 10
        made = span(
            trace,
            number,
            name="agent" if leads else "embed",
            parent=1 if leads else agent,
            start_ms=start,
            end_ms=start + (10 * steps if leads else 10),
            day=BEGAN,
            attributes={"input.value": f"page {number}"},
        )
        if number in errors:
            made.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message=f"page {number} is gone"))
        spans.append(made)
    return spans
