"""Records to rows, purely: which blocks, which spans, and what can't be folded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

from services.projections.traces.copy_format import microseconds
from services.projections.traces.fold import PoisonedSpanError, Version, fold, version
from services.projections.traces.rows import BlockKey, BlockRow, Part, SpanKey, SpanRow
from shared.event_log.codec import Recorded
from shared.read_model.blocks import Source, UnreadableBlockError, open_block, sources_of
from shared.read_model.dead_letters import DeadLetter, whole


@dataclass(slots=True)
class Projected:
    """What records come to: their blocks, one row for each of their spans, and what has to be set aside."""

    blocks: list[BlockRow] = field(default_factory=list)
    spans: list[SpanRow] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)


def project(records: Sequence[Recorded]) -> Projected:
    """Fold records. A span told several times in them has one row of all its tellings."""
    projected = Projected()
    told: dict[SpanKey, list[Version]] = {}
    for record in records:
        block = _block(record)
        if isinstance(block, DeadLetter):
            projected.dead_letters.append(block)
            continue
        try:
            sources = _sources(block)
        except UnreadableBlockError as error:
            projected.dead_letters.append(whole(record, str(error)))
            continue
        projected.blocks.append(block)
        received_at_us = microseconds(block.received_at)
        for source in sources:
            try:
                each = version(Part(received_at_us, record.partition, record.offset, source.index), source)
                told.setdefault(each.key(block.project_id), []).append(each)
            except PoisonedSpanError as error:
                projected.dead_letters.append(span_letter(record, source, str(error)))
    projected.spans = [fold(key, versions) for key, versions in told.items()]
    return projected


def refold(key: SpanKey, parts: Sequence[Part], blocks: Mapping[BlockKey, BlockRow]) -> SpanRow:
    """A span's row from all that was told of it. A part whose block is gone (retention) tells nothing any more."""
    versions = []
    for part in parts:
        block = blocks.get((key[0], part.partition, part.offset))
        if block is not None:
            source = next(source for source in _sources(block) if source.index == part.span_index)
            versions.append(version(part, source))
    return fold(key, versions)


def span_letter(record: Recorded, source: Source, reason: str) -> DeadLetter:
    """One span of a record, as a request of its own, so that it can be sent again as it is."""
    assert record.event is not None
    alone = ScopeSpans(scope=source.emitter.scope, spans=[source.span])
    request = ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=source.emitter.resource, scope_spans=[alone])]
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


def _block(record: Recorded) -> BlockRow | DeadLetter:
    event = record.event
    if event is None:
        return whole(record, "the record is not an Event of a project")
    kind = event.WhichOneof("payload")
    if kind != "spans_recorded":
        return whole(record, f"the payload is {kind or 'of an unknown kind'}, which does not belong in this topic")
    recorded = event.spans_recorded
    return BlockRow(
        project_id=event.project_id,
        partition=record.partition,
        offset=record.offset,
        received_at=event.received_at.ToDatetime(tzinfo=record.appended_at.tzinfo)
        if event.HasField("received_at")
        else record.appended_at,
        sdk_name=event.producer.name,
        sdk_version=event.producer.version,
        compression=recorded.compression,
        span_count=recorded.span_count,
        otlp_request=recorded.otlp_request,
    )


def _sources(block: BlockRow) -> list[Source]:
    request = open_block(block.compression, block.otlp_request)
    return list(sources_of(request, sdk_name=block.sdk_name, sdk_version=block.sdk_version))
