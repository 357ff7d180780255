"""Records of the log for tests: spans as OTLP, whole requests, compressed, in an envelope, at a place."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import zstandard
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.event_pb2 import Event, Producer
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_ZSTD, SpansRecorded
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from shared.event_log.codec import LogRecord, read
from shared.event_log.topics import TRACES

NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)
Value = str | int | bool | float


def span(
    trace: int,
    number: int,
    *,
    name: str = "step",
    parent: int | None = None,
    start_ms: int = 0,
    end_ms: int | None = 10,
    day: datetime = NOON,
    attributes: Mapping[str, Value] | None = None,
) -> Span:
    """A span of a trace; ids are numbers, times milliseconds after noon. Without an end it still runs."""
    noon = int(day.timestamp()) * 1_000_000_000
    return Span(
        trace_id=trace.to_bytes(16, "big"),
        span_id=number.to_bytes(8, "big"),
        parent_span_id=b"" if parent is None else parent.to_bytes(8, "big"),
        name=name,
        start_time_unix_nano=noon + start_ms * 1_000_000,
        end_time_unix_nano=0 if end_ms is None else noon + end_ms * 1_000_000,
        attributes=[KeyValue(key=key, value=any_value(value)) for key, value in (attributes or {}).items()],
    )


def any_value(value: Value) -> AnyValue:
    """An attribute's value."""
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    return AnyValue(double_value=value) if isinstance(value, float) else AnyValue(string_value=value)


def event(spans: Sequence[Span], *, project: str = "p", received_at: datetime = NOON) -> Event:
    """What the gateway appends for one request."""
    request = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])])
    received = Timestamp()
    received.FromDatetime(received_at)
    return Event(
        event_id="01890000-0000-7000-8000-000000000000",
        project_id=project,
        received_at=received,
        producer=Producer(name="test", version="1"),
        spans_recorded=SpansRecorded(
            otlp_request=zstandard.compress(request.SerializeToString()),
            compression=COMPRESSION_ZSTD,
            span_count=len(spans),
        ),
    )


def record(
    spans: Sequence[Span],
    *,
    partition: int = 0,
    offset: int = 0,
    project: str = "p",
    received_at: datetime | None = None,
) -> LogRecord:
    """A record as a consumer meets it; by default received some seconds after noon, later offsets later."""
    received_at = received_at or NOON + timedelta(seconds=offset, milliseconds=partition)
    raw = event(spans, project=project, received_at=received_at).SerializeToString()
    return at(raw, partition=partition, offset=offset)


def at(raw: bytes | None, *, partition: int = 0, offset: int = 0) -> LogRecord:
    """Any bytes as a record of the topic."""
    appended_ms = int(NOON.timestamp() * 1000) + 1000 * offset
    return read(TRACES, partition, offset, appended_ms, raw)
