"""The traces projection: records to rows before the fence, rows to tables within."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import date
from functools import partial

import asyncpg
from faststream.asgi import AsgiFastStream
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_NONE, SpansRecorded
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span
from prometheus_client import Counter

from services.projections.traces.batch import FoldedBatch, fold_records, fold_records_in_steps, span_letter
from services.projections.traces.copy_format import pack
from services.projections.traces.merge import merge_spans
from services.projections.traces.partitions import Partitions
from services.projections.traces.rows import SpanRow
from services.projections.traces.tables import NAME, add_to_traces, copy_blocks, copy_spans, prepare_connection
from shared.event_log.codec import LogRecord
from shared.event_log.projections import TRACES_PROJECTION
from shared.event_log.topics import TRACES
from shared.projection import metrics
from shared.projection.app import background_task, make_app
from shared.projection.dead_letters import DeadLetter, set_aside, whole
from shared.projection.projection import SAMPLE_EVENT_ID, SAMPLE_PROJECT
from shared.projection.refused import REFUSED, write_or_bisect
from shared.runtime.failpoints import failpoint
from shared.runtime.settings import KafkaSettings, PostgresSettings
from shared.spans.blocks import open_block, sources_of

SLOW_PATHS = Counter(
    "lodestream_projection_slow_paths", "Batches (or parts of a refused one) merged with what is stored", ["projection"]
)


def create_app(
    kafka: KafkaSettings | None = None, postgres: PostgresSettings | None = None, group: str | None = None
) -> AsgiFastStream:
    """Make the application for these settings, by default the environment's."""
    return make_app(
        TRACES_PROJECTION, _open, kafka=kafka, postgres=postgres, group=group, prepare_connection=prepare_connection
    )


@asynccontextmanager
async def _open(pool: asyncpg.Pool) -> AsyncIterator["TracesProjection"]:
    partitions = Partitions(pool)
    async with background_task(partitions.keep_ahead()):
        yield TracesProjection(partitions)


class PartitionsMissingError(Exception):
    """Some of the tables' partitions were missing; they are there now."""

    def __init__(self) -> None:
        super().__init__("some of the tables' partitions were missing")


class TracesProjection:
    """Spans become rows of `spans`, `span_blocks` and `traces`."""

    topic = TRACES

    def __init__(self, partitions: Partitions, *, name: str = NAME) -> None:
        self.name = name
        self._partitions = partitions
        self._folding = asyncio.Lock()
        self._met_again: set[int] = set()
        """Partitions whose last batch met spans that were stored already: the next one is likely to."""

    def items(self, event: Event) -> int:
        """Its spans."""
        return event.spans_recorded.span_count

    def sample(self) -> Event:
        """One span that began now."""
        now_ns = time.time_ns()
        span = Span(trace_id=bytes(15) + b"\1", span_id=bytes(7) + b"\1", name="sample", start_time_unix_nano=now_ns)
        request = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])])
        recorded = SpansRecorded(otlp_request=request.SerializeToString(), compression=COMPRESSION_NONE, span_count=1)
        return Event(event_id=SAMPLE_EVENT_ID, project_id=SAMPLE_PROJECT, spans_recorded=recorded)

    async def prepare(self, records: Sequence[LogRecord]) -> FoldedBatch:
        """All the arithmetic, and the tables' partitions.

        One batch at a time, so that the first is written while the next is folded, and in small steps, so that Postgres
        and Kafka are answered between them: folding 2,000 spans takes 50 ms and more.
        """
        async with self._folding:
            folded = FoldedBatch()
            for _ in fold_records_in_steps(records, folded):
                await asyncio.sleep(0)
            if records[0].partition not in self._met_again:
                with suppress(*REFUSED):  # what no column takes is found when it is written
                    folded.packed = pack(folded.spans)
        await self._partitions.ensure(**days_of(folded))
        return folded

    async def write(
        self, connection: asyncpg.Connection, records: Sequence[LogRecord], prepared: FoldedBatch
    ) -> list[DeadLetter]:
        """Write the rows.

        Raises PartitionsMissingError when somebody removed partitions meanwhile.
        """
        letters = await write_batch(connection, records, prepared, projection=self.name)
        for kind, times in prepared.changes.items():
            metrics.CLEANED.labels(self.name, kind).inc(times)
        if prepared.stored_before:
            self._met_again.add(records[0].partition)
        else:
            self._met_again.discard(records[0].partition)
        if letters and await self._partitions.restore(**days_of(prepared)):
            raise PartitionsMissingError
        return letters


def days_of(folded: FoldedBatch) -> dict[str, set[date]]:
    """The partitions that a batch needs."""
    return {
        "start_days": {row.start_day for row in folded.spans},
        "received_days": {block.received_at.date() for block in folded.blocks},
    }


# Writing a batch


async def write_batch(
    connection: asyncpg.Connection, records: Sequence[LogRecord], folded: FoldedBatch, *, projection: str = NAME
) -> list[DeadLetter]:
    """Write what the records of one partition were folded to; returns what had to be set aside, under this name."""
    at = {record.offset: record for record in records}
    letters = []
    if refused := await write_or_bisect(connection, folded.blocks, partial(copy_blocks, connection)):
        letters += [whole(at.pop(block.offset), reason) for block, reason in refused]
        folded = fold_records(list(at.values()))
    letters += folded.dead_letters
    for row, reason in await write_or_bisect(connection, folded.spans, partial(_write_spans, connection, folded)):
        letters += [_letter(at[ref.offset], ref.span_index, reason) for ref in row.parts]
    await failpoint("projection.copied")
    if letters:
        await set_aside(connection, projection, letters)
    return letters


async def _write_spans(connection: asyncpg.Connection, folded: FoldedBatch, rows: Sequence[SpanRow]) -> None:
    """All the spans of a batch, or some of them when it is halved to find what is refused."""
    if folded.packed and rows is folded.spans:
        with suppress(asyncpg.UniqueViolationError):
            async with connection.transaction():
                await copy_spans(connection, folded.packed.spans)
                await add_to_traces(connection, folded.packed.traces)
            return
    SLOW_PATHS.labels(NAME).inc()
    folded.stored_before += await merge_spans(connection, rows)


def _letter(record: LogRecord, index: int, reason: str) -> DeadLetter:
    assert record.event is not None
    recorded = record.event.spans_recorded
    request = open_block(recorded.compression, recorded.otlp_request)
    source = next(source for source in sources_of(request, sdk_name="", sdk_version="") if source.index == index)
    return span_letter(record, source, reason)
