"""OTLP requests as bytes and as messages: reading them, cutting them, and which of their spans can be taken. Pure.

What has no identity is refused. Odd values (absurd clocks, NUL characters, long names) are the projection's to clean:
the log keeps what came. How deep values nest is bounded by protobuf's own parser: about fifty lists in each other.

A request that protobuf refuses as a whole is read span by span: one bad string must not cost the spans beside it.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple, TypeVar

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from services.write.gateway.parsing import decode_reason

MAX_MESSAGES = 256 * 1024
"""Messages that are parsed at once, spans, attributes and values alike: some 30 MB, and ten milliseconds."""
_BYTES = 2  # the wire type of strings, bytes and messages
_SPANS_PER_STEP = 1_000
_RESOURCE_SPANS, _SCOPE_SPANS, _SPANS = 1, 2, 2  # field numbers in a request, in ResourceSpans, in ScopeSpans
Message = TypeVar("Message", ResourceSpans, ScopeSpans, Span)
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)
_MAX_NAME = 65_536  # characters


class SpanLocation(NamedTuple):
    """The indexes of a span in its request: of its resource, its scope and itself."""

    resource: int
    scope: int
    span: int


@dataclass(frozen=True, slots=True)
class RefusedSpan:
    """A span that is not taken, the field that is wrong (empty for the span itself), and what is wrong with it."""

    location: SpanLocation
    field: str
    reason: str

    @property
    def path(self) -> str:
        """The path of the wrong field, for example `resource_spans[0].scope_spans[0].spans[3].trace_id`."""
        r, s, n = self.location
        return f"resource_spans[{r}].scope_spans[{s}].spans[{n}]{'.' if self.field else ''}{self.field}"


def find_faults(request: ExportTraceServiceRequest) -> list[RefusedSpan]:
    """Return the spans that can't be taken, in order, with the first fault of each."""
    return [
        RefusedSpan(SpanLocation(r, s, n), *fault)
        for r, resource in enumerate(request.resource_spans)
        for s, scope in enumerate(resource.scope_spans)
        for n, span in enumerate(scope.spans)
        if (fault := _fault_of(span)) is not None
    ]


def span_locations(request: ExportTraceServiceRequest, *, without: Collection[SpanLocation] = ()) -> list[SpanLocation]:
    """Return the locations of a request's spans, in order, without those left out."""
    locations = (
        SpanLocation(r, s, n)
        for r, resource in enumerate(request.resource_spans)
        for s, scope in enumerate(resource.scope_spans)
        for n in range(len(scope.spans))
    )
    return [location for location in locations if location not in without] if without else list(locations)


def select_spans(request: ExportTraceServiceRequest, locations: Sequence[SpanLocation]) -> ExportTraceServiceRequest:
    """Return a request of some of the spans only, in order, with their resources and scopes."""
    part = ExportTraceServiceRequest()
    at: tuple[int, int] | None = None
    for r, s, n in locations:
        whole = request.resource_spans[r]
        scope = whole.scope_spans[s]
        if at is None or at[0] != r:
            part.resource_spans.append(ResourceSpans(resource=whole.resource, schema_url=whole.schema_url))
        if at != (r, s):
            part.resource_spans[-1].scope_spans.append(ScopeSpans(scope=scope.scope, schema_url=scope.schema_url))
            at = (r, s)
        part.resource_spans[-1].scope_spans[-1].spans.append(scope.spans[n])
    return part


def spans_of(request: ExportTraceServiceRequest) -> Iterator[Span]:
    """Iterate over the spans of a request, in order."""
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            yield from scope.spans


def _fault_of(span: Span) -> tuple[str, str] | None:
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
    if len(span.name) > _MAX_NAME:
        return "name", f"has {len(span.name)} characters; at most {_MAX_NAME} are taken"
    return None


class WireError(ValueError):
    """The bytes do not follow protobuf's encoding; the message says where and how."""


class TooManySpansError(ValueError):
    """A request has more spans than are taken."""


def read_request(otlp_request: bytes, *, max_spans: int) -> tuple[ExportTraceServiceRequest, list[RefusedSpan]]:
    """Return a request and those of its spans that can't be read; an empty span stands for each of them.

    Raises WireError when no span can be read, or what can't be read is not a span.
    """
    try:
        return ExportTraceServiceRequest.FromString(otlp_request), []
    except DecodeError as error:
        request, refused = _salvage(otlp_request, max_spans)
        spans = sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
        if len(refused) in (0, spans):  # with none, no span is to blame: the damage is around them
            first = f"{refused[0].path} {refused[0].reason}" if refused else decode_reason(error)
            raise WireError(first) from None
        return request, refused


def read_piece(otlp_request: bytes, *, max_spans: int) -> tuple[ExportTraceServiceRequest, list[RefusedSpan]]:
    """Return a piece of a request and those of its spans that can't be read, be it all of them."""
    try:
        return ExportTraceServiceRequest.FromString(otlp_request), []
    except DecodeError:
        return _salvage(otlp_request, max_spans)


def split(raw: bytes, number: int, path: str, *, most: int | None = None) -> tuple[list[bytes], bytes]:
    """Return the messages in field `number` of a message, and the bytes of all other fields.

    Raises WireError naming `path`, also where there are more than `most` of these messages.
    """
    messages, rest = [], bytearray()
    for tag, begin, at, end in _fields(raw, 0, len(raw), path):
        if tag == number << 3 | _BYTES:
            messages.append(raw[at:end])
            if most is not None and len(messages) > most:
                raise WireError(f"{path}: more than {most} messages")
        else:
            rest += raw[begin:end]
    return messages, bytes(rest)


@dataclass(frozen=True, slots=True)
class ScopeBytes:
    """The bytes of a ScopeSpans that has spans: its indexes, what surrounds its spans, and where these are."""

    resource: int
    scope: int
    around: tuple[bytes, bytes]
    """The other fields of the ResourceSpans, and of the ScopeSpans."""
    spans: Sequence[tuple[int, int]]
    """The offsets in the request at which the field of each span begins and ends."""


@dataclass(slots=True)
class Layout:
    """The spans of a request as ranges of its bytes."""

    scopes: list[ScopeBytes] = field(default_factory=list)
    spans: int = 0


def scan_spans(raw: bytes, layout: Layout, *, max_spans: int) -> Iterator[None]:
    """Find the spans of a request without parsing it, in steps of about a millisecond.

    Raises TooManySpansError, and WireError.
    """
    others = 0
    for r, (at, end) in enumerate(_messages(raw, 0, len(raw), _RESOURCE_SPANS, "request")):
        outer = f"resource_spans[{r}]"
        scopes, around_scopes = _split_ranges(raw, at, end, _SCOPE_SPANS, outer)
        for s, (inner_at, inner_end) in enumerate(scopes):
            yield
            path = f"{outer}.scope_spans[{s}]"
            others += 1
            spans: list[tuple[int, int]] = []
            rest = bytearray()
            for tag, begin, _, field_end in _fields(raw, inner_at, inner_end, path):
                if tag != _SPANS << 3 | _BYTES:
                    rest += raw[begin:field_end]
                    continue
                spans.append((begin, field_end))
                layout.spans += 1
                if layout.spans > max_spans:
                    raise TooManySpansError(max_spans)
                if not layout.spans % _SPANS_PER_STEP:
                    yield
            if spans:
                layout.scopes.append(ScopeBytes(r, s, (around_scopes, bytes(rest)), spans))
        others += 1
        if others > 2 * max_spans:
            raise WireError(f"request: more than {2 * max_spans} resources and scopes")
        yield


@dataclass(slots=True)
class Piece:
    """Some of a request's spans with their resources and scopes, as a request of its own."""

    raw: bytes
    """The bytes of the whole request."""
    scopes: list[tuple[ScopeBytes, int, int]] = field(default_factory=list)
    """The scopes, each with the range of its spans: the first one, and the one after the last."""
    spans: int = 0
    size: int = 0
    """Bytes of the spans."""

    @property
    def otlp_request(self) -> bytes:
        """The bytes of the piece as a request."""
        request = bytearray()
        for _, group in groupby(self.scopes, key=lambda each: each[0].resource):
            scopes = list(group)
            resource_spans = bytearray(scopes[0][0].around[0])
            for scope, first, last in scopes:
                begin, end = scope.spans[first][0], scope.spans[last - 1][1]
                contiguous = end - begin == sum(b - a for a, b in scope.spans[first:last])
                spans = (
                    self.raw[begin:end] if contiguous else b"".join([self.raw[a:b] for a, b in scope.spans[first:last]])
                )
                resource_spans += _field_header(_SCOPE_SPANS, len(scope.around[1]) + len(spans)) + scope.around[1]
                resource_spans += spans
            request += _field_header(_RESOURCE_SPANS, len(resource_spans))
            request += resource_spans
        return bytes(request)

    def locations(self) -> list[SpanLocation]:
        """Return where the spans of the piece are in the whole request."""
        return [
            SpanLocation(scope.resource, scope.scope, n)
            for scope, first, last in self.scopes
            for n in range(first, last)
        ]

    def in_whole(self, location: SpanLocation) -> SpanLocation:
        """Return where a span at this location of the piece is in the whole request."""
        groups = [list(group) for _, group in groupby(self.scopes, key=lambda each: each[0].resource)]
        scope, first, _ = groups[location.resource][location.scope]
        return SpanLocation(scope.resource, scope.scope, first + location.span)


def cut_pieces(raw: bytes, layout: Layout, *, max_bytes: int, max_spans: int) -> Iterator[Piece]:
    """Cut a request into pieces of about `max_bytes` and at most `max_spans` spans; a larger span is a piece by itself.

    The resource and scope of spans are in each of their pieces. Where they are large, so are the pieces: all together
    have at most five quarters of the request's bytes.
    """
    piece = Piece(raw)
    for scope in layout.scopes:
        most = max(max_bytes, 4 * sum(map(len, scope.around)))
        first = 0
        for n, (begin, end) in enumerate(scope.spans):
            size = end - begin
            if piece.spans and (piece.size + size > most or piece.spans >= max_spans):
                if n > first:
                    piece.scopes.append((scope, first, n))
                yield piece
                piece, first = Piece(raw), n
            piece.spans += 1
            piece.size += size
        piece.scopes.append((scope, first, len(scope.spans)))
    if piece.spans:
        yield piece


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
                    refused.append(RefusedSpan(SpanLocation(r, s, n), "", f"can't be read: {why}"))
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
        return message(), decode_reason(error)


def _split_ranges(raw: bytes, at: int, end: int, number: int, path: str) -> tuple[list[tuple[int, int]], bytes]:
    """Return where the messages in field `number` begin and end, and the bytes of all other fields."""
    ranges, rest = [], bytearray()
    for tag, begin, value_at, field_end in _fields(raw, at, end, path):
        if tag == number << 3 | _BYTES:
            ranges.append((value_at, field_end))
        else:
            rest += raw[begin:field_end]
    return ranges, bytes(rest)


def _messages(raw: bytes, at: int, end: int, number: int, path: str) -> Iterator[tuple[int, int]]:
    """Iterate over where the messages in field `number` begin and end."""
    return (
        (value_at, field_end)
        for tag, _, value_at, field_end in _fields(raw, at, end, path)
        if tag == number << 3 | _BYTES
    )


def _fields(raw: bytes, at: int, end: int, path: str) -> Iterator[tuple[int, int, int, int]]:
    """Iterate over the fields of a message: the tag, and where the field, its value and the next field begin.

    Raises WireError naming `path`.
    """
    while at < end:
        begin, size = at, 0
        tag, at = _varint(raw, at, path)
        value_at = at
        match tag & 7:
            case 0:
                _, at = _varint(raw, at, path)
            case 1:
                size = 8
            case 2:
                size, at = _varint(raw, at, path)
                value_at = at
            case 5:
                size = 4
            case kind:
                raise WireError(f"{path}: no field begins at byte {begin} (wire type {kind})")
        at += size
        if at > end:
            raise WireError(f"{path}: {at - end} bytes are missing at the end")
        yield tag, begin, value_at, at


def _field_header(number: int, size: int) -> bytes:
    """Return what stands before the bytes of a message in a field: its tag and size."""
    head = bytearray([number << 3 | _BYTES])
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head)


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
