"""Records to rows, purely: which blocks, which spans, and what can't be folded."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

from services.projections.traces.copy_format import Packed, microseconds
from services.projections.traces.fold import PoisonedSpanError, SpanRevision, fold, read_revision
from services.projections.traces.rows import BlockRow, SpanKey, SpanRef, SpanRow
from shared.event_log.codec import LogRecord
from shared.projection.dead_letters import DeadLetter, whole
from shared.projection.records import StrayRecordError, payload_of
from shared.runtime.memory import raise_if_out_of_memory
from shared.spans.blocks import ReceivedSpan, UnreadableBlockError, open_block, sources_of
from shared.spans.dialects.values import Cleaner

_SPANS_OF_A_STEP = 50


@dataclass(slots=True)
class FoldedBatch:
    """What records are folded into: their blocks, a row for each of their spans, and dead letters."""

    blocks: list[BlockRow] = field(default_factory=list)
    spans: list[SpanRow] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    packed: Packed | None = None
    """All the spans as COPY takes them, where none of them is expected to be stored already."""
    changes: Counter[str] = field(default_factory=Counter)
    """What had to be cleaned of the spans, by kind."""
    stored_before: int = 0
    """Spans of which revisions were stored already; counted when they are written."""


def fold_records(records: Sequence[LogRecord]) -> FoldedBatch:
    """Fold records of one partition. A span of which they hold several revisions has one row.

    What can't be folded, a span or a whole record, is set aside with the reason. Raises only MemoryError: another time,
    there may be room.
    """
    folded = FoldedBatch()
    for _ in fold_records_in_steps(records, folded):
        pass
    return folded


def fold_records_in_steps(records: Sequence[LogRecord], folded: FoldedBatch) -> Iterator[None]:
    """Fold records as `fold_records` does, in steps of a millisecond or two, between which something else may run."""
    revisions_by_key: dict[SpanKey, list[SpanRevision]] = {}
    for record in records:
        try:
            block = block_of(record)
            sources = sources_in(block)
            received_at_us = microseconds(block.received_at)
        except Exception as error:
            raise_if_out_of_memory(error)
            folded.dead_letters.append(whole(record, _reason(error)))
            continue
        folded.blocks.append(block)
        for source in sources:
            try:
                ref = SpanRef(received_at_us, record.partition, record.offset, source.index)
                revision = read_revision(ref, source)
                revisions_by_key.setdefault(revision.key(block.project_id), []).append(revision)
            except Exception as error:
                raise_if_out_of_memory(error)
                folded.dead_letters.append(span_letter(record, source, _reason(error)))
        yield
    by_offset = {record.offset: record for record in records}
    for number, (key, revisions) in enumerate(revisions_by_key.items()):
        if number % _SPANS_OF_A_STEP == 0:
            yield
        try:
            folded.spans.append(fold(key, revisions, folded.changes))
        except Exception as error:
            raise_if_out_of_memory(error)
            reason = _reason(error)
            folded.dead_letters += [span_letter(by_offset[each.ref.offset], each.source, reason) for each in revisions]


def sources_in(block: BlockRow) -> list[ReceivedSpan]:
    """The spans of a record, by their index.

    Raises UnreadableBlockError.
    """
    request = open_block(block.compression, block.otlp_request)
    return list(sources_of(request, sdk_name=block.sdk_name, sdk_version=block.sdk_version))


def span_letter(record: LogRecord, source: ReceivedSpan, reason: str) -> DeadLetter:
    """One span of a record, as a request of its own, so that it can be sent again as it is."""
    assert record.event is not None
    alone = ScopeSpans(scope=source.origin.scope, spans=[source.span])
    request = ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=source.origin.resource, scope_spans=[alone])]
    )
    return DeadLetter(
        record.event.project_id,
        record.topic,
        record.partition,
        record.offset,
        source.index,
        reason,
        request.SerializeToString(),
    )


def _reason(error: Exception) -> str:
    expected = isinstance(error, (PoisonedSpanError, UnreadableBlockError, StrayRecordError))
    return str(error) if expected else f"{type(error).__name__}: {error}"


def block_of(record: LogRecord) -> BlockRow:
    """The row of `span_blocks` of a record.

    Raises StrayRecordError for one that holds no spans, and ValueError for one that was received at no time.
    """
    event, _kind, recorded = payload_of(record, {"spans_recorded"})
    clean = Cleaner()
    return BlockRow(
        project_id=event.project_id,
        partition=record.partition,
        offset=record.offset,
        received_at=record.received_at,
        sdk_name=clean.name(event.producer.name),
        sdk_version=clean.name(event.producer.version),
        compression=recorded.compression,
        span_count=recorded.span_count,
        otlp_request=recorded.otlp_request,
    )
