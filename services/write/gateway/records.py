"""Records of the log: the envelope of an event, its ids, and the program that sends it."""

import secrets
import time
import uuid
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.event_pb2 import Event, Producer
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_ZSTD, SpansRecorded
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from shared.event_log.append import MAX_VALUE_BYTES, Record
from shared.event_log.topics import EXPERIMENTS, TRACES
from shared.rules.experiments import subject_id_of
from shared.runtime.refusal import Context

_ENVELOPE_BYTES = 2048  # ids, times, the producer
MAX_BLOCK_BYTES = MAX_VALUE_BYTES - _ENVELOPE_BYTES
"""The largest compressed request that a record takes."""
_MAX_PRODUCER_TEXT = 128  # characters
_SDK_ATTRIBUTES = {"telemetry.sdk.name", "telemetry.sdk.language", "telemetry.sdk.version"}


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the records of one event have in common."""

    project_id: str
    producer: Producer
    event_id: str
    """The id of the first record; further ones have ids made from it, so that a retry gives the same."""
    received_at: Timestamp
    occurred_at: Timestamp

    def event(self, **payload: Any) -> Event:
        """Return the event with its payload."""
        return Event(
            event_id=self.event_id,
            project_id=self.project_id,
            occurred_at=self.occurred_at,
            received_at=self.received_at,
            producer=self.producer,
            **payload,
        )

    def record(self, topic: str, subject: bytes, **payload: Any) -> Record:
        """Return the record of the event; all about one subject of a project are in one partition, in their order."""
        return Record(topic, f"{self.project_id}/".encode() + subject, self.event(**payload).SerializeToString())


def span_record(envelope: Envelope, trace_id: bytes, block: bytes, *, spans: int, opened_bytes: int) -> Record:
    """Return the record of a compressed OTLP request.

    Args:
        envelope: The envelope of its event.
        trace_id: The trace of its first span; it chooses the partition.
        block: The request, compressed by zstd.
        spans: How many spans it holds.
        opened_bytes: Its size before it was compressed.
    """
    recorded = SpansRecorded(
        otlp_request=block, compression=COMPRESSION_ZSTD, span_count=spans, opened_bytes=opened_bytes
    )
    return envelope.record(TRACES, trace_id, spans_recorded=recorded)


def experiment_record(kind: str, payload: Message, envelope: Envelope) -> Record:
    """Return the record of a checked payload about a dataset or a run; `kind` is its field in Event."""
    return envelope.record(EXPERIMENTS, subject_id_of(payload).encode(), **{kind: payload})


def new_event_id() -> str:
    """Return a UUIDv7 (RFC 9562, 5.7): 48 bits of milliseconds, then random bits."""
    bits = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    bits = bits & ~(0xF << 76) | 0x7 << 76
    bits = bits & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=bits & (1 << 128) - 1))


def numbered_event_id(event_id: str, number: int) -> str:
    """Return the id of an event's n-th record: the event's own for 0, else one that is the same on every retry."""
    return str(uuid.uuid5(uuid.UUID(event_id), str(number))) if number else event_id


def producer_of(context: Context, request: ExportTraceServiceRequest | None = None) -> Producer:
    """Return the program that sends: by its SDK's headers, else OpenTelemetry's resource, else the user agent.

    For example "langfuse-python" 5.0.4, "opentelemetry-python" 1.45.2. It is empty when the call names none.
    """
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    if name := metadata.get("x-langfuse-sdk-name"):
        return _producer(f"langfuse-{name.removeprefix('langfuse-')}", metadata.get("x-langfuse-sdk-version", ""))
    if name := metadata.get("lodestream-sdk-name"):
        return _producer(name, metadata.get("lodestream-sdk-version", ""))
    if request and request.resource_spans:
        attributes = request.resource_spans[0].resource.attributes
        sdk = {
            attribute.key: attribute.value.string_value for attribute in attributes if attribute.key in _SDK_ATTRIBUTES
        }
        if name := sdk.get("telemetry.sdk.name"):
            language = sdk.get("telemetry.sdk.language")
            return _producer(f"{name}-{language}" if language else name, sdk.get("telemetry.sdk.version", ""))
    name, _, version = metadata.get("user-agent", "").partition(" ")[0].partition("/")
    return _producer(name, version)


def limit_producer(producer: Producer) -> Producer:
    """Return the producer with its texts cut to what is kept of them."""
    return _producer(producer.name, producer.version)


def _producer(name: str, version: str) -> Producer:
    return Producer(name=name[:_MAX_PRODUCER_TEXT], version=version[:_MAX_PRODUCER_TEXT])
