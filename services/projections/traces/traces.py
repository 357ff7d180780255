"""The traces projection: records to rows before the fence, rows to tables within."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import date

import asyncpg
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_NONE, SpansRecorded
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from services.projections.traces.folding.projection import Projected, projecting
from services.projections.traces.storing.apply import apply
from services.projections.traces.storing.packed import pack
from services.projections.traces.storing.partitions import Partitions
from services.projections.traces.storing.tables import NAME
from shared.event_log.codec import Recorded
from shared.event_log.topics import TRACES
from shared.read_model.dead_letters import DeadLetter
from shared.read_model.projecting import metrics
from shared.read_model.projecting.projection import SAMPLE_EVENT_ID, SAMPLE_PROJECT
from shared.read_model.projecting.refused import REFUSED


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
        self._told_again: set[int] = set()
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

    async def prepare(self, records: Sequence[Recorded]) -> Projected:
        """All the arithmetic, and the tables' partitions.

        One batch at a time, so that the first is written while the next is folded, and in small steps, so that Postgres
        and Kafka are answered between them: folding 2,000 spans takes 50 ms and more.
        """
        async with self._folding:
            projected = Projected()
            for _ in projecting(records, projected):
                await asyncio.sleep(0)
            if records[0].partition not in self._told_again:
                with suppress(*REFUSED):  # what no column takes is found when it is written
                    projected.packed = pack(projected.spans)
        await self._partitions.ensure(**days_of(projected))
        return projected

    async def write(
        self, connection: asyncpg.Connection, records: Sequence[Recorded], prepared: Projected
    ) -> list[DeadLetter]:
        """Write the rows.

        Raises PartitionsMissingError when somebody removed partitions meanwhile.
        """
        letters = await apply(connection, records, prepared, projection=self.name)
        for kind, times in prepared.changes.items():
            metrics.CLEANED.labels(self.name, kind).inc(times)
        if prepared.told_again:
            self._told_again.add(records[0].partition)
        else:
            self._told_again.discard(records[0].partition)
        if letters and await self._partitions.restore(**days_of(prepared)):
            raise PartitionsMissingError
        return letters


def days_of(projected: Projected) -> dict[str, set[date]]:
    """The partitions that a batch needs."""
    return {
        "start_days": {row.start_day for row in projected.spans},
        "received_days": {block.received_at.date() for block in projected.blocks},
    }
