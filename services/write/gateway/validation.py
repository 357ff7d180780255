"""Which spans of a request can't be taken, and the request without them. Pure.

Refused is what has no identity. Odd values (absurd clocks, NUL characters) are the projection's to clean: the log keeps
what came.
"""

from dataclasses import dataclass

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from services.write.gateway.refusal import invalid

MAX_SPANS = 20_000
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)


@dataclass(frozen=True, slots=True)
class RefusedSpan:
    """A span that is not taken: its path in the request, and why."""

    field: str
    reason: str


def parse(otlp_request: bytes, field: str) -> ExportTraceServiceRequest:
    """The request.

    Raises RefusedError (INVALID_ARGUMENT) naming `field` for bytes that are none.
    """
    try:
        return ExportTraceServiceRequest.FromString(otlp_request)
    except DecodeError as error:
        raise invalid(field, f"not an ExportTraceServiceRequest: {error}") from None


def count(request: ExportTraceServiceRequest) -> int:
    """How many spans a request has.

    Raises RefusedError when they are too many.
    """
    spans = sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
    if spans > MAX_SPANS:
        raise invalid("resource_spans", f"{spans} spans in one request; at most {MAX_SPANS} are taken")
    return spans


def take_out(request: ExportTraceServiceRequest) -> list[RefusedSpan]:
    """Remove the spans that can't be taken; the others stay as they are. Returns what was removed, in order."""
    refused: list[RefusedSpan] = []
    for r, resource in enumerate(request.resource_spans):
        for s, scope in enumerate(resource.scope_spans):
            bad = [(n, why) for n, span in enumerate(scope.spans) if (why := _fault(span)) is not None]
            for n, (field, reason) in bad:
                refused.append(RefusedSpan(f"resource_spans[{r}].scope_spans[{s}].spans[{n}].{field}", reason))
            for n, _ in reversed(bad):
                del scope.spans[n]
    return refused


def first_trace_id(request: ExportTraceServiceRequest) -> bytes:
    """The trace of the first span."""
    return next(
        span.trace_id for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
    )


def _fault(span: Span) -> tuple[str, str] | None:
    trace_id, span_id = span.trace_id, span.span_id
    if len(trace_id) != 16:
        return "trace_id", f"has {len(trace_id)} bytes instead of 16"
    if trace_id == _NO_TRACE:
        return "trace_id", "is all zeros"
    if len(span_id) != 8:
        return "span_id", f"has {len(span_id)} bytes instead of 8"
    if span_id == _NO_SPAN:
        return "span_id", "is all zeros"
    if len(span.parent_span_id) not in (0, 8):
        return "parent_span_id", f"has {len(span.parent_span_id)} bytes instead of 8"
    if not span.start_time_unix_nano:
        return "start_time_unix_nano", "is missing"
    return None
