"""Blocks: the spans of one record, compressed once, opened again, and counted in one order."""

import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import zstandard
from google.protobuf.message import DecodeError
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_NONE, COMPRESSION_ZSTD
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from shared.runtime.wire import TooManyMessagesError, check_messages

MAX_OPENED_BYTES = 64 * 1024 * 1024
MAX_SPANS = 100_000
"""Of one block: some 250 MB while they are folded."""
MAX_MESSAGES = 2_000_000
"""Of one block, spans, attributes and values alike: some 200 MB while it is open."""
_SCAN_BYTES = 128 * 1024
_LEVEL = 1  # zstd: 5 µs a span for a request of 100; higher levels cost more than they save


class _Codec(threading.local):
    """A compressor and a decompressor of each thread: they can't be shared."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_codec = _Codec()


class UnreadableBlockError(ValueError):
    """A block's bytes are not what they should be; the message says how."""


@dataclass(frozen=True, slots=True)
class Emitter:
    """What the spans of one resource and scope have in common."""

    resource: Resource
    scope: InstrumentationScope
    resource_attributes: dict[str, AnyValue]
    sdk_name: str
    sdk_version: str
    understood: dict[str, tuple[str, int]] = field(default_factory=dict, compare=False)
    """Room for what is found out of it once for all its spans: a text by field, and how much of it was cleaned."""


@dataclass(slots=True)  # not frozen: making one takes a quarter of the time, and there is one a span
class Source:
    """One span as it came: the span, who emitted it, and its place in the block."""

    span: Span
    emitter: Emitter
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


def sources_of(request: ExportTraceServiceRequest, *, sdk_name: str, sdk_version: str) -> Iterator[Source]:
    """The spans of a request in the order that gives them their index; `sdk_*` is the record's producer."""
    index = 0
    for resource_spans in request.resource_spans:
        resource = resource_spans.resource
        attributes = {attribute.key: attribute.value for attribute in resource.attributes}
        for scope_spans in resource_spans.scope_spans:
            emitter = Emitter(resource, scope_spans.scope, attributes, sdk_name, sdk_version)
            for span in scope_spans.spans:
                yield Source(span, emitter, index)
                index += 1
