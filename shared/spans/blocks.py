"""Blocks: the spans of one record, compressed once, opened again, and counted in one order."""

import io
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import zstandard
from google.protobuf.message import DecodeError
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_NONE, COMPRESSION_ZSTD
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from shared.event_log.codec import LogRecord
from shared.runtime.wire import TooManyMessagesError, check_messages, read_varint

MAX_OPENED_BYTES = 64 * 1024 * 1024
MAX_SPANS = 100_000
"""Of one block: some 250 MB while they are folded."""
MAX_MESSAGES = 2_000_000
"""Of one block, spans, attributes and values alike: some 200 MB while it is open."""
MAX_SPAN_MESSAGES = 200_000
"""Of one span that is read by itself."""
_RESOURCE_SPANS, _RESOURCE, _SCOPE_SPANS, _SCOPE, _SPANS = 1, 1, 2, 1, 2  # field numbers, from the outside inwards
_PASSED_AT_ONCE = 1_000  # spans: 0.5 ms
_SCAN_BYTES = 128 * 1024
_LEVEL = 1  # zstd: 5 µs a span for a request of 100; higher levels cost more than they save

_Message = TypeVar("_Message", Span, Resource, InstrumentationScope)


class _Codec(threading.local):
    """A compressor and a decompressor of each thread: they can't be shared."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_codec = _Codec()


class UnreadableBlockError(ValueError):
    """A block's bytes are not what they should be; the message says how."""


@dataclass(frozen=True, slots=True)
class SpanOrigin:
    """What the spans of one resource and instrumentation scope have in common."""

    resource: Resource
    scope: InstrumentationScope
    resource_attributes: dict[str, AnyValue]
    sdk_name: str
    sdk_version: str
    columns: dict[str, tuple[str, dict[str, int]]] = field(default_factory=dict, compare=False)
    """Cache of the columns that it gives all its spans: a text by column, and what was cleaned of it."""


@dataclass(slots=True)  # not frozen: making one takes a quarter of the time, and there is one a span
class ReceivedSpan:
    """One span as it was sent: the span, its origin, and its index in the block."""

    span: Span
    origin: SpanOrigin
    index: int


def compress(otlp_request: bytes) -> bytes:
    """The bytes of a request as a block holds them (COMPRESSION_ZSTD)."""
    return _codec.compressor.compress(otlp_request)


def decompress(compression: int, block: bytes, *, max_bytes: int = MAX_OPENED_BYTES) -> bytes:
    """The request's bytes again.

    Raises UnreadableBlockError when they are damaged, longer than `max_bytes`, or compressed in an unknown way.
    """
    if compression == COMPRESSION_NONE:
        opened = block
    elif compression == COMPRESSION_ZSTD:
        try:
            opened = _decompress(block, max_bytes)
        except zstandard.ZstdError as error:
            raise UnreadableBlockError(f"otlp_request is not zstd: {error}") from None
    else:
        raise UnreadableBlockError(f"compression {compression} is unknown")
    if len(opened) > max_bytes:
        raise UnreadableBlockError(f"otlp_request has more than {max_bytes} bytes when decompressed")
    return opened


def opened_bytes(compression: int, block: bytes, *, max_bytes: int = MAX_OPENED_BYTES) -> int:
    """How many bytes a block has when it is decompressed; known without decompressing it where its frame says so.

    Where it does not, the content is counted and thrown away, up to `max_bytes`.
    Raises UnreadableBlockError as `decompress` does.
    """
    if compression == COMPRESSION_NONE:
        size = len(block)
    elif compression == COMPRESSION_ZSTD:
        try:
            size = zstandard.frame_content_size(block)
            if size < 0:
                size = _counted(block, max_bytes)
        except zstandard.ZstdError as error:
            raise UnreadableBlockError(f"otlp_request is not zstd: {error}") from None
    else:
        raise UnreadableBlockError(f"compression {compression} is unknown")
    if size > max_bytes:
        raise UnreadableBlockError(f"otlp_request has more than {max_bytes} bytes when decompressed")
    return size


def opened_size(record: LogRecord) -> int:
    """How many bytes a record of the log has once it is opened: the larger of what it says and what its block says.

    Where neither says anything it counts as the largest that is ever opened.
    """
    if record.event is None or not record.event.HasField("spans_recorded"):
        return len(record.raw)
    recorded = record.event.spans_recorded
    if recorded.compression != COMPRESSION_ZSTD:
        return len(record.raw)
    try:
        size = zstandard.frame_content_size(recorded.otlp_request)
    except zstandard.ZstdError:
        return len(record.raw)
    return max(size, recorded.opened_bytes) if size >= 0 else recorded.opened_bytes or MAX_OPENED_BYTES


def _counted(block: bytes, max_bytes: int) -> int:
    size = 0
    with _codec.decompressor.stream_reader(io.BytesIO(block), read_across_frames=False) as reader:
        while size <= max_bytes and (piece := reader.read(_SCAN_BYTES)):
            size += len(piece)
    return size


def _decompress(block: bytes, max_bytes: int) -> bytes:
    """At once where the frame says how large its content is, which makes no difference but speed: 0.5 µs a span."""
    if 0 <= zstandard.frame_content_size(block) <= max_bytes:
        return _codec.decompressor.decompress(block)
    with _codec.decompressor.stream_reader(io.BytesIO(block), read_across_frames=False) as reader:
        return reader.read(max_bytes + 1)


def open_block(compression: int, block: bytes, *, max_bytes: int = MAX_OPENED_BYTES) -> ExportTraceServiceRequest:
    """The request a block holds.

    Raises UnreadableBlockError, also for one that would take more memory than any request that the gateway accepts.
    """
    opened = decompress(compression, block, max_bytes=max_bytes)
    try:
        check_messages(opened, ExportTraceServiceRequest, most=MAX_MESSAGES)
        request = ExportTraceServiceRequest.FromString(opened)
    except TooManyMessagesError as error:
        raise UnreadableBlockError(f"otlp_request holds {error}") from None
    except DecodeError as error:
        raise UnreadableBlockError(f"otlp_request is not an ExportTraceServiceRequest: {error}") from None
    if (spans := count_spans(request)) > MAX_SPANS:
        raise UnreadableBlockError(f"otlp_request holds {spans} spans; at most {MAX_SPANS} are read")
    return request


def count_spans(request: ExportTraceServiceRequest) -> int:
    """How many spans a request has."""
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)


def sources_of(request: ExportTraceServiceRequest, *, sdk_name: str, sdk_version: str) -> Iterator[ReceivedSpan]:
    """The spans of a request in the order that gives them their index; `sdk_*` is the record's producer."""
    index = 0
    for resource_spans in request.resource_spans:
        resource = resource_spans.resource
        attributes = {attribute.key: attribute.value for attribute in resource.attributes}
        for scope_spans in resource_spans.scope_spans:
            origin = SpanOrigin(resource, scope_spans.scope, attributes, sdk_name, sdk_version)
            for span in scope_spans.spans:
                yield ReceivedSpan(span, origin, index)
                index += 1


@dataclass(frozen=True, slots=True)
class Located:
    """Where one span lies in the bytes of a request."""

    index: int
    begin: int
    end: int
    origin: SpanOrigin

    def read(self, request: bytes) -> ReceivedSpan:
        """The span.

        Raises UnreadableBlockError.
        """
        return ReceivedSpan(_parsed(Span, request[self.begin : self.end]), self.origin, self.index)


def locate(request: bytes, indexes: Collection[int], *, sdk_name: str, sdk_version: str) -> Iterator[Located | None]:
    """Find the spans with these indexes, those of `sources_of`, without reading the others.

    Read, a request takes up to ten times the memory of its bytes. Gives None now and then, so that the caller can let
    others go on.

    Raises UnreadableBlockError.
    """
    index, passed = 0, 0
    for begin, end in _fields(request, 0, len(request), _RESOURCE_SPANS):
        scopes = list(_fields(request, begin, end, _SCOPE_SPANS))
        resource: Resource | None = None
        attributes: dict[str, AnyValue] = {}
        for scope_begin, scope_end in scopes:
            origin: SpanOrigin | None = None
            for span_begin, span_end in _fields(request, scope_begin, scope_end, _SPANS):
                if index in indexes:
                    if resource is None:
                        resource = _parsed(Resource, _joined(request, begin, end, _RESOURCE))
                        attributes = {attribute.key: attribute.value for attribute in resource.attributes}
                    if origin is None:
                        scope = _parsed(InstrumentationScope, _joined(request, scope_begin, scope_end, _SCOPE))
                        origin = SpanOrigin(resource, scope, attributes, sdk_name, sdk_version)
                    yield Located(index, span_begin, span_end, origin)
                index += 1
                passed += 1
                if passed == _PASSED_AT_ONCE:
                    passed = 0
                    yield None


def _joined(request: bytes, begin: int, end: int, number: int) -> bytes:
    """A message that may come in several pieces, which protobuf merges."""
    return b"".join(request[piece_begin:piece_end] for piece_begin, piece_end in _fields(request, begin, end, number))


def _parsed(kind: type[_Message], raw: bytes) -> _Message:
    try:
        check_messages(raw, kind, most=MAX_SPAN_MESSAGES)
        return kind.FromString(raw)
    except TooManyMessagesError as error:
        raise UnreadableBlockError(f"its {kind.__name__.lower()} holds {error}") from None
    except DecodeError as error:
        raise UnreadableBlockError(f"its {kind.__name__.lower()} can't be read: {error}") from None


def _fields(data: bytes, at: int, end: int, number: int) -> Iterator[tuple[int, int]]:
    """Where the messages in field `number` lie between two places.

    Raises UnreadableBlockError.
    """
    wanted = number << 3 | 2
    try:
        while at < end:
            tag, at = read_varint(data, at)
            if tag & 7 == 2:
                size, at = read_varint(data, at)
                if at + size > end:
                    break
                if tag == wanted:
                    yield at, at + size
                at += size
            else:
                at = _behind(data, at, tag)
    except IndexError:
        at = -1
    if at != end:
        raise UnreadableBlockError("otlp_request is not an ExportTraceServiceRequest: it is cut off or damaged")


def _behind(data: bytes, at: int, tag: int) -> int:
    """Where what follows a tag ends. Raises IndexError: nothing can follow it."""
    match tag & 7:
        case 0:
            return read_varint(data, at)[1]
        case 1:
            return at + 8
        case 2:
            size, at = read_varint(data, at)
            return at + size
        case 5:
            return at + 4
        case 3:  # a group, which nobody sends any more: all up to its end
            depth = 1
            while depth:
                inner, at = read_varint(data, at)
                depth += {3: 1, 4: -1}.get(inner & 7, 0)
                at = at if inner & 7 in (3, 4) else _behind(data, at, inner)
            return at
    raise IndexError
