"""Requests from bytes; piece by piece where protobuf refuses the whole.

One bad string must not cost the spans beside it.
"""

from typing import TypeVar

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from services.write.gateway.validation import Place, RefusedSpan

_BYTES = 2  # the wire type of strings, bytes and messages
_RESOURCE_SPANS, _SCOPE_SPANS, _SPANS = 1, 2, 2  # field numbers in a request, in ResourceSpans, in ScopeSpans
Message = TypeVar("Message", ResourceSpans, ScopeSpans, Span)


class WireError(ValueError):
    """The bytes do not follow protobuf's encoding; the message says where and how."""


def read_request(otlp_request: bytes, *, max_spans: int) -> tuple[ExportTraceServiceRequest, list[RefusedSpan]]:
    """The request, and the spans in it that can't be read; an empty one is in the place of each.

    Raises WireError when no span can be read, or what can't is not a span.
    """
    try:
        return ExportTraceServiceRequest.FromString(otlp_request), []
    except DecodeError as error:
        request, refused = _salvage(otlp_request, max_spans)
        spans = sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
        if len(refused) in (0, spans):  # with none, no span is to blame: the damage is around them
            first = f"{refused[0].path} {refused[0].reason}" if refused else reason_of(error)
            raise WireError(first) from None
        return request, refused


def split(raw: bytes, number: int, path: str) -> tuple[list[bytes], bytes]:
    """The messages in field `number`, and the bytes of all other fields.

    Raises WireError naming `path`.
    """
    found, rest, at = [], bytearray(), 0
    while at < len(raw):
        begin, size = at, 0
        tag, at = _varint(raw, at, path)
        match tag & 7:
            case 0:
                _, at = _varint(raw, at, path)
            case 1:
                size = 8
            case 2:
                size, at = _varint(raw, at, path)
            case 5:
                size = 4
            case kind:
                raise WireError(f"{path}: no field begins at byte {begin} (wire type {kind})")
        at += size
        if at > len(raw):
            raise WireError(f"{path}: {at - len(raw)} bytes are missing at the end")
        if tag == number << 3 | _BYTES:
            found.append(raw[at - size : at])
        else:
            rest += raw[begin:at]
    return found, bytes(rest)


def reason_of(error: DecodeError) -> str:
    """What protobuf found, without the name of the message."""
    return str(error).rpartition(": ")[2] or "can't be read"


def _salvage(otlp_request: bytes, max_spans: int) -> tuple[ExportTraceServiceRequest, list[RefusedSpan]]:
    request, refused, pieces = ExportTraceServiceRequest(), [], 0
    resources, _ = split(otlp_request, _RESOURCE_SPANS, "request")
    for r, resource in enumerate(resources):
        scopes, rest = split(resource, _SCOPE_SPANS, f"resource_spans[{r}]")
        outer, outer_fault = _read(ResourceSpans, rest)
        for s, scope in enumerate(scopes):
            spans, rest = split(scope, _SPANS, f"resource_spans[{r}].scope_spans[{s}]")
            inner, inner_fault = _read(ScopeSpans, rest)
            above = (outer_fault and f"its resource: {outer_fault}") or (inner_fault and f"its scope: {inner_fault}")
            for n, raw in enumerate(spans):
                span, fault = _read(Span, raw)
                if why := above or fault:
                    refused.append(RefusedSpan(Place(r, s, n), "", f"can't be read: {why}"))
                inner.spans.append(Span() if why else span)
            outer.scope_spans.append(inner)
            pieces += 1 + len(spans)
        request.resource_spans.append(outer)
        pieces += 1
        if pieces > 2 * max_spans:
            raise WireError(f"request: more than {max_spans} spans, resources and scopes")
    return request, refused


def _read(message: type[Message], raw: bytes) -> tuple[Message, str]:
    try:
        return message.FromString(raw), ""
    except DecodeError as error:
        return message(), reason_of(error)


def _varint(raw: bytes, at: int, path: str) -> tuple[int, int]:
    number = shift = 0
    while at < len(raw) and shift < 70:
        byte = raw[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise WireError(f"{path}: no number at byte {at}")
