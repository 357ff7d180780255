"""Spans as OTLP's bytes (opentelemetry-proto, trace/v1), written by hand: message objects cost four times as much.

Protobuf joins messages by joining their bytes; that is what makes requests out of frames, see `request_of`.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any

from lodestream._wire.protobuf import delimited, fixed64, text, varint

_FIXED32 = Struct("<I").pack
_DOUBLE = Struct("<d").pack
_MAX_DEPTH = 16
_MAX_BITS = 1024  # of integers that are written out: beyond, Python may refuse to
Event = tuple[str, int, Mapping[str, Any], int]
"""Name, Unix time in nanoseconds, attributes, how many attributes were over the limit."""
Link = tuple[int, int, str, int, Mapping[str, Any], int]
"""Trace id, span id, tracestate, flags, attributes, how many attributes were over the limit."""
HAS_REMOTE, REMOTE = 0x100, 0x200
"""Flags of an OTLP span or link: whether what it refers to is in another process is known; it is."""


@lru_cache(2048)
def _key(name: str) -> bytes:
    return delimited(b"\x0a", text(name))


def attributes_of(tag: bytes, attributes: Mapping[str, Any]) -> list[bytes]:
    """Key and value of each, as the repeated field of this tag, in pieces to be joined."""
    parts: list[bytes] = []
    for name, value in attributes.items():
        key = _key(name)
        if type(value) is str:  # payloads are texts: not copied until all is joined
            raw = text(value)
            size = varint(len(raw))
            inner = 1 + len(size) + len(raw)
            outer = varint(inner)
            parts += (tag, varint(len(key) + 1 + len(outer) + inner), key, b"\x12", outer, b"\x0a", size, raw)
        else:
            parts.append(delimited(tag, key + delimited(b"\x12", any_value_of(value))))
    return parts


def any_value_of(value: Any, depth: int = 0) -> bytes:
    """An AnyValue: text, boolean, number, bytes, list or mapping; anything else as its text."""
    if isinstance(value, str):
        return delimited(b"\x0a", text(value))
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return b"\x18" + varint(value & 0xFFFF_FFFF_FFFF_FFFF)
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        return any_value_of(f"<an integer of {value.bit_length()} bits>")
    if isinstance(value, float):
        return b"\x21" + _DOUBLE(value)
    if isinstance(value, bytes):
        return delimited(b"\x3a", value)
    if value is None:
        return b""
    if isinstance(value, Sequence) and depth < _MAX_DEPTH:
        return delimited(b"\x2a", b"".join(delimited(b"\x0a", any_value_of(item, depth + 1)) for item in value))
    if isinstance(value, Mapping) and depth < _MAX_DEPTH:
        pairs = (_key(str(name)) + delimited(b"\x12", any_value_of(item, depth + 1)) for name, item in value.items())
        return delimited(b"\x32", b"".join(delimited(b"\x0a", pair) for pair in pairs))
    return delimited(b"\x0a", text(str(value)))


def span_of(  # noqa: PLR0917
    trace_id: int,
    span_id: int,
    parent_id: int,
    trace_state: str,
    flags: int,
    name: str,
    kind: int,
    start_ns: int,
    end_ns: int,
    attributes: Mapping[str, Any],
    events: Sequence[Event],
    links: Sequence[Link],
    status: tuple[int, str],
    dropped: tuple[int, int, int],
) -> bytes:
    """A Span. `parent_id` and `end_ns` 0: none yet; `dropped`: attributes, events and links over the limits."""
    parts = [b"\x0a\x10", trace_id.to_bytes(16, "big"), b"\x12\x08", span_id.to_bytes(8, "big")]
    if trace_state:
        parts.append(delimited(b"\x1a", text(trace_state)))
    if parent_id:
        parts += (b"\x22\x08", parent_id.to_bytes(8, "big"))
    parts += (delimited(b"\x2a", text(name)), b"\x30", varint(kind), b"\x39", fixed64(start_ns))
    if end_ns:
        parts += (b"\x41", fixed64(end_ns))
    parts += attributes_of(b"\x4a", attributes)
    parts += (delimited(b"\x5a", _event(event)) for event in events)
    parts += (delimited(b"\x6a", _link(link)) for link in links)
    for tag, number in zip((b"\x50", b"\x60", b"\x70"), dropped, strict=True):
        if number:
            parts += (tag, varint(number))
    code, message = status
    if code:
        parts.append(
            delimited(b"\x7a", (delimited(b"\x12", text(message)) if message else b"") + b"\x18" + varint(code))
        )
    parts += (b"\x85\x01", _FIXED32(flags))
    return b"".join(parts)


def scope_of(name: str, version: str, attributes: Mapping[str, Any]) -> bytes:
    """An InstrumentationScope, as a field of ScopeSpans."""
    head = delimited(b"\x0a", text(name)) + (delimited(b"\x12", text(version)) if version else b"")
    return delimited(b"\x0a", head + b"".join(attributes_of(b"\x1a", attributes)))


def scope_spans_of(scope: bytes, spans: Iterable[bytes], schema_url: str) -> bytes:
    """A ScopeSpans, as a field of ResourceSpans."""
    parts = [scope]
    for span in spans:
        parts += (b"\x12", varint(len(span)), span)
    if schema_url:
        parts.append(delimited(b"\x1a", text(schema_url)))
    return delimited(b"\x12", b"".join(parts))


def resource_of(attributes: Mapping[str, Any]) -> bytes:
    """A Resource, as a field of ResourceSpans."""
    return delimited(b"\x0a", b"".join(attributes_of(b"\x0a", attributes)))


def request_of(frames: Iterable[bytes]) -> bytes:
    """An ExportTraceServiceRequest of ResourceSpans, each beginning with its resource; equal ones are said once."""
    by_resource: dict[bytes, list[bytes]] = {}
    for frame in frames:
        end = _end_of_resource(frame)
        by_resource.setdefault(frame[:end], []).append(frame[end:])
    return b"".join(delimited(b"\x0a", b"".join((resource, *rest))) for resource, rest in by_resource.items())


def _end_of_resource(frame: bytes) -> int:
    length, shift, at = 0, 0, 1
    while frame[at] & 0x80:
        length |= (frame[at] & 0x7F) << shift
        shift += 7
        at += 1
    return at + 1 + (length | frame[at] << shift)


def _event(event: Event) -> bytes:
    name, time_ns, attributes, dropped = event
    count = b"\x20" + varint(dropped) if dropped else b""
    head = b"".join((b"\x09", fixed64(time_ns), delimited(b"\x12", text(name))))
    return b"".join((head, *attributes_of(b"\x1a", attributes), count))


def _link(link: Link) -> bytes:
    trace_id, span_id, trace_state, flags, attributes, dropped = link
    head = b"\x0a\x10" + trace_id.to_bytes(16, "big") + b"\x12\x08" + span_id.to_bytes(8, "big")
    state = delimited(b"\x1a", text(trace_state)) if trace_state else b""
    count = b"\x28" + varint(dropped) if dropped else b""
    return b"".join((head, state, *attributes_of(b"\x22", attributes), count, b"\x35", _FIXED32(flags)))
