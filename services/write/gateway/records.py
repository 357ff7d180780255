"""A request's spans as records of the log: one, whole; several only where one would be too large."""

import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.event_pb2 import Event, Producer
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_ZSTD, SpansRecorded
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.write.gateway.otlp_request import Place, RefusedSpan, part_of, spans_of
from shared.event_log.append import MAX_VALUE_BYTES, Record
from shared.event_log.topics import EXPERIMENTS, TRACES
from shared.rules.experiments import subject_id_of
from shared.spans.blocks import compress

_ENVELOPE_BYTES = 2048  # ids, times, the producer
MAX_BLOCK_BYTES = MAX_VALUE_BYTES - _ENVELOPE_BYTES
"""The largest compressed request that a record takes."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the records of one request have in common."""

    project_id: str
    producer: Producer
    event_id: str
    """Of the first record; further ones have ids made from it, so that a retry gives the same."""
    received_at: Timestamp
    occurred_at: Timestamp

    def event(self, **payload: Any) -> Event:
        """The event with its payload."""
        return Event(
            event_id=self.event_id,
            project_id=self.project_id,
            occurred_at=self.occurred_at,
            received_at=self.received_at,
            producer=self.producer,
            **payload,
        )

    def record(self, trace_id: bytes, block: bytes, spans: int, opened_bytes: int) -> Record:
        """The record of a compressed request, its number of spans, and of bytes before it was compressed."""
        recorded = SpansRecorded(
            otlp_request=block, compression=COMPRESSION_ZSTD, span_count=spans, opened_bytes=opened_bytes
        )
        event = self.event(spans_recorded=recorded)
        return Record(TRACES, f"{self.project_id}/".encode() + trace_id, event.SerializeToString())


def split_records(
    request: ExportTraceServiceRequest, places: Sequence[Place], envelope: Envelope, *, first: int = 0
) -> tuple[list[Record], list[RefusedSpan]]:
    """The records of these spans of a request, and those of them that are too large even alone.

    `first` is the number that the first record has among those of its event.
    """
    records: list[Record] = []
    refused: list[RefusedSpan] = []
    waiting = [places] if places else []
    while waiting:
        its = waiting.pop()
        part = part_of(request, its)
        opened = part.SerializeToString()
        block = compress(opened)
        if len(block) <= MAX_BLOCK_BYTES:
            one = replace(envelope, event_id=numbered_event_id(envelope.event_id, first + len(records)))
            records.append(one.record(next(spans_of(part)).trace_id, block, len(its), len(opened)))
        elif len(its) == 1:
            refused.append(too_large(its[0], block))
        else:
            middle = len(its) // 2
            waiting += [its[middle:], its[:middle]]
    return records, refused


def too_large(place: Place, block: bytes) -> RefusedSpan:
    """A span that no record can hold, compressed as `block`."""
    reason = f"has {len(block)} bytes with its resource, compressed; a record takes {MAX_BLOCK_BYTES}"
    return RefusedSpan(place, "", reason)


def new_event_id() -> str:
    """A UUIDv7 (RFC 9562, 5.7): 48 bits of milliseconds, then random bits."""
    bits = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    bits = bits & ~(0xF << 76) | 0x7 << 76
    bits = bits & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=bits & (1 << 128) - 1))


def numbered_event_id(event_id: str, number: int) -> str:
    """The id of the n-th record of an event: the event's own for the first; always the same for the same event."""
    return str(uuid.uuid5(uuid.UUID(event_id), str(number))) if number else event_id


def checked_record(kind: str, payload: Any, envelope: Envelope) -> Record:
    """The record of a payload that has been checked; `kind` is its name in Event."""
    key = f"{envelope.project_id}/{subject_id_of(payload)}".encode()
    return Record(EXPERIMENTS, key, envelope.event(**{kind: payload}).SerializeToString())
