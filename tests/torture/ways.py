"""Ways in over gRPC, each one attempt at a time: OTLP's Export, plain and gzipped; IngestService.Record; any RPC."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import zstandard
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.ingest_pb2 import EVENT_OUTCOME_REFUSED, RecordRequest, RecordResponse
from lodestream_proto.v1.ingest_pb2_grpc import IngestServiceStub
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_NONE, COMPRESSION_ZSTD, SpansRecorded
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from tests.torture.ledger import Verdict

_PATIENCE = 12.0  # seconds; the gateway answers within ten
_FOR_GOOD = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
}
OPTIONS = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 500))


@dataclass(frozen=True, slots=True)
class Answer:
    """What one attempt came to."""

    verdict: Verdict
    position: str = ""
    code: str = "OK"
    rejected: int = 0
    retry_after: float | None = None
    """Seconds, when the server told."""
    details: str = ""
    """Of a refusal, in words."""
    response: Any = None
    """The message that answered."""
    answer: Mapping[str, Any] = field(default_factory=dict)
    """What of it the ledger is to keep."""

    def objection(self, *, known_key: bool = True) -> str:
        """What is wrong with the answer itself, whatever was asked; empty: nothing."""
        if self.details.startswith("internal error"):
            return f"INTERNAL: {self.details}"
        if known_key and self.code == "UNAUTHENTICATED":
            return "a good key was refused for good"
        return ""


Attempt = Callable[[str], Any]
"""With the key's secret, once; the same request each time."""


def export(channel: grpc.aio.Channel, request: ExportTraceServiceRequest, *, gzip: bool) -> Attempt:
    """TraceService/Export."""
    stub: Any = TraceServiceStub(channel)  # type: ignore[no-untyped-call]
    compression = grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression

    async def attempt(secret: str) -> Answer:
        call = stub.Export(request, metadata=_metadata(secret), timeout=_PATIENCE, compression=compression)
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            return _no(error)
        trailing = dict(await call.trailing_metadata() or ())
        position = str(trailing.get("lodestream-position", ""))
        return Answer("acked", position, rejected=answer.partial_success.rejected_spans)

    return attempt


def record(channel: grpc.aio.Channel, request: ExportTraceServiceRequest, *, compressed: bool) -> Attempt:
    """IngestService/Record with one event; the same event id on every attempt."""
    stub: Any = IngestServiceStub(channel)
    raw = request.SerializeToString()
    spans = SpansRecorded(
        otlp_request=zstandard.compress(raw) if compressed else raw,
        compression=COMPRESSION_ZSTD if compressed else COMPRESSION_NONE,
    )
    asked = RecordRequest(events=[Event(event_id=str(uuid.uuid4()), project_id="forged", spans_recorded=spans)])

    async def attempt(secret: str) -> Answer:
        try:
            answer = await stub.Record(asked, metadata=_metadata(secret), timeout=_PATIENCE)
        except grpc.aio.AioRpcError as error:
            return _no(error)
        (result,) = answer.results
        return Answer("acked", answer.position, rejected=result.rejected_spans)

    return attempt


async def ask(method: Any, request: Any, secret: str) -> Answer:
    """Any RPC, once. A message that has a position is acknowledged at it."""
    try:
        response = await method(request, metadata=_metadata(secret), timeout=_PATIENCE)
    except grpc.aio.AioRpcError as error:
        return _no(error)
    return Answer("acked", getattr(response, "position", ""), response=response)


async def record_events(channel: grpc.aio.Channel, events: Sequence[Event], secret: str) -> Answer:
    """IngestService/Record of events that are no spans, once."""
    stub: Any = IngestServiceStub(channel)
    answer = await ask(stub.Record, RecordRequest(events=events), secret)
    if answer.verdict != "acked":
        return answer
    response: RecordResponse = answer.response
    rejected = sum(result.outcome == EVENT_OUTCOME_REFUSED for result in response.results)
    return Answer("acked", response.position, rejected=rejected, response=response)


def retry_delay(error: grpc.aio.AioRpcError) -> float | None:
    """Seconds, from RetryInfo."""
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    if not isinstance(details, bytes):
        return None
    info = RetryInfo()
    found = any(detail.Unpack(info) for detail in Status.FromString(details).details)
    return float(info.retry_delay.ToMilliseconds()) / 1000 if found else None


def _metadata(secret: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {secret}"),)


def _no(error: grpc.aio.AioRpcError) -> Answer:
    code = error.code()
    verdict: Verdict = "refused" if code in _FOR_GOOD else "unknown"
    return Answer(verdict, code=code.name, retry_after=retry_delay(error), details=error.details() or "")
