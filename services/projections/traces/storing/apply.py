"""What a batch comes to, into the tables: records, spans, summaries, dead letters. In the fence's transaction."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import asyncpg

from services.projections.traces import metrics
from services.projections.traces.folding.projection import Projected, project, span_letter
from services.projections.traces.folding.rows import SpanRow
from services.projections.traces.storing.merge import merge_spans
from services.projections.traces.storing.tables import NAME, add_to_traces, copy_blocks, copy_spans
from shared.event_log.codec import Recorded
from shared.read_model.blocks import open_block, sources_of
from shared.read_model.dead_letters import DeadLetter, set_aside, whole
from shared.read_model.projecting.refused import write_refusing
from shared.runtime.failpoints import failpoint


async def apply(
    connection: asyncpg.Connection, records: Sequence[Recorded], projected: Projected, *, projection: str = NAME
) -> list[DeadLetter]:
    """Write what the records of one partition were projected to; returns what had to be set aside, under this name."""
    at = {record.offset: record for record in records}
    letters = []
    if refused := await write_refusing(connection, projected.blocks, partial(copy_blocks, connection)):
        letters += [whole(at.pop(block.offset), reason) for block, reason in refused]
        projected = project(list(at.values()))
    letters += projected.dead_letters
    for row, reason in await write_refusing(connection, projected.spans, partial(_write_spans, connection, projected)):
        letters += [_letter(at[part.offset], part.span_index, reason) for part in row.parts]
    await failpoint("projection.copied")
    if letters:
        await set_aside(connection, projection, letters)
    return letters


async def _write_spans(connection: asyncpg.Connection, projected: Projected, rows: Sequence[SpanRow]) -> None:
    """All the spans of a batch, or some of them when it is halved to find what is refused."""
    if projected.packed and rows is projected.spans:
        with suppress(asyncpg.UniqueViolationError):
            async with connection.transaction():
                await copy_spans(connection, projected.packed.spans)
                await add_to_traces(connection, projected.packed.traces)
            return
    metrics.SLOW_PATHS.labels(NAME).inc()
    projected.told_again += await merge_spans(connection, rows)


def _letter(record: Recorded, index: int, reason: str) -> DeadLetter:
    assert record.event is not None
    recorded = record.event.spans_recorded
    request = open_block(recorded.compression, recorded.otlp_request)
    source = next(source for source in sources_of(request, sdk_name="", sdk_version="") if source.index == index)
    return span_letter(record, source, reason)
