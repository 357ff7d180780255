"""A request's spans as records of the log: one, whole; several only where one would be too large."""

import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.event_pb2 import Event, Producer
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_ZSTD, SpansRecorded
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

from services.write.gateway.validation import RefusedSpan, first_trace_id
from shared.event_log.append import MAX_VALUE_BYTES
from shared.read_model.blocks import compress

_ENVELOPE_BYTES = 1024  # ids, times, the producer


@dataclass(frozen=True, slots=True)
class SpansRecord:
    """One record to append."""

    key: bytes
    event: Event

    def value(self) -> bytes:
        """The record's bytes."""
        return self.event.SerializeToString()


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the records of one request have in common."""

    project_id: str
    producer: Producer
    event_id: str = ""
    """Given by the client, for the first record; the others have ids of their own."""
    occurred_at: Timestamp | None = None


def records_of(
    request: ExportTraceServiceRequest, otlp_request: bytes, spans: int, envelope: Envelope
) -> tuple[list[SpansRecord], list[RefusedSpan]]:
    """The records of a request whose serialised form is `otlp_request`; and the spans too large even alone."""
    if not spans:
        return [], []
    compressed = compress(otlp_request)
    if len(compressed) <= MAX_VALUE_BYTES - _ENVELOPE_BYTES:
        key = f"{envelope.project_id}/".encode() + first_trace_id(request)
        return [SpansRecord(key, _event(envelope, compressed, spans))], []
    if spans == 1:
        reason = f"the span has {len(compressed)} bytes when compressed; at most {MAX_VALUE_BYTES - _ENVELOPE_BYTES}"
        return [], [RefusedSpan(f"span {first_span_id(request)}", reason)]
    records: list[SpansRecord] = []
    refused: list[RefusedSpan] = []
    for half in _halves(request, spans):
        size = sum(len(scope.spans) for resource in half.resource_spans for scope in resource.scope_spans)
        more, too_large = records_of(half, half.SerializeToString(), size, envelope)
        records += more
        refused += too_large
        envelope = Envelope(envelope.project_id, envelope.producer, occurred_at=envelope.occurred_at)
    return records, refused


def first_span_id(request: ExportTraceServiceRequest) -> str:
    """The first span's id, in hex."""
    return next(
        span.span_id.hex()
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    )


def event_id() -> str:
    """A UUIDv7 (RFC 9562, 5.7): 48 bits of milliseconds, then random bits."""
    bits = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    bits = bits & ~(0xF << 76) | 0x7 << 76
    bits = bits & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=bits & (1 << 128) - 1))


def _event(envelope: Envelope, compressed: bytes, spans: int) -> Event:
    now = Timestamp()
    now.GetCurrentTime()
    return Event(
        event_id=envelope.event_id or event_id(),
        project_id=envelope.project_id,
        occurred_at=envelope.occurred_at or now,
        received_at=now,
        producer=envelope.producer,
        spans_recorded=SpansRecorded(otlp_request=compressed, compression=COMPRESSION_ZSTD, span_count=spans),
    )


def _halves(request: ExportTraceServiceRequest, spans: int) -> Sequence[ExportTraceServiceRequest]:
    halves = (ExportTraceServiceRequest(), ExportTraceServiceRequest())
    seen = 0
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            middle = max(0, spans // 2 - seen)
            for half, part in zip(halves, (scope.spans[:middle], scope.spans[middle:]), strict=True):
                if part:
                    inner = ScopeSpans(scope=scope.scope, schema_url=scope.schema_url, spans=part)
                    outer = ResourceSpans(
                        resource=resource.resource, schema_url=resource.schema_url, scope_spans=[inner]
                    )
                    half.resource_spans.append(outer)
            seen += len(scope.spans)
    return halves
