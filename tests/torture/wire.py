"""Records of the log read without our code and without generated code: field numbers by hand, from the .proto files."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import zstandard

Value = int | bytes
_NONE, _ZSTD = 1, 2  # lodestream_proto.v1.Compression
_SAID = ("payload", "lodestream.observation.input")


class LogSpan(NamedTuple):
    """One telling of a span as it is in the log."""

    trace: str
    span: str
    parent: str
    name: str
    start_ns: int
    end_ns: int
    attributes: dict[str, str | int]
    """Those that are strings or integers."""
    bytes_digest: str
    said_digest: str


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record. `why` tells what makes it unreadable; then it has no spans."""

    partition: int
    offset: int
    raw: bytes
    project: str = ""
    received_us: int = 0
    block: bytes = b""
    spans: list[LogSpan] = field(default_factory=list)
    why: str = ""


def said_digest(trace: str, span: str, name: str, payload: str) -> str:
    """Of a telling whose bytes somebody else makes."""
    return "said:" + hashlib.sha256(f"{trace}/{span}/{name}/{payload}".encode()).hexdigest()


def bytes_digest(span: bytes) -> str:
    """Of an OTLP span, serialised."""
    return "bytes:" + hashlib.sha256(span).hexdigest()


def read_record(partition: int, offset: int, raw: bytes | None) -> LogRecord:
    """What a record says."""
    raw, project = raw or b"", ""
    try:
        event = _last(raw)
        project = _bytes(event.get(2)).decode()
        if not project:
            return LogRecord(partition, offset, raw, why="no project")
        if 10 not in event:
            return LogRecord(partition, offset, raw, project, why="no spans_recorded")
        received = _last(_bytes(event.get(4)))
        recorded = _last(_bytes(event[10]))
        block = _bytes(recorded.get(1))
        spans = list(_spans(_opened(_int(recorded.get(2)), block)))
    except (ValueError, zstandard.ZstdError) as error:
        return LogRecord(partition, offset, raw, project, why=str(error))
    received_us = _int(received.get(1)) * 1_000_000 + _int(received.get(2)) // 1000
    return LogRecord(partition, offset, raw, project, received_us, block, spans)


def fields(raw: bytes) -> Iterator[tuple[int, Value]]:
    """Field numbers and values of a message. Raises ValueError when the bytes are none."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(raw, at)
            yield number, value
            continue
        if kind not in (1, 2, 5) or not number:
            raise ValueError(f"no field at byte {at}")
        size = {1: 8, 5: 4}.get(kind, 0)
        if kind == 2:
            size, at = _varint(raw, at)
        if at + size > len(raw):
            raise ValueError("torn")
        piece, at = raw[at : at + size], at + size
        yield number, piece if kind == 2 else int.from_bytes(piece, "little")


def _opened(compression: int, block: bytes) -> bytes:
    if compression == _NONE:
        return block
    if compression != _ZSTD:
        raise ValueError(f"compression {compression}")
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(block)) as reader:
        return reader.read()


def _spans(request: bytes) -> Iterator[LogSpan]:
    for resource_spans in _all(request, 1):
        for scope_spans in _all(resource_spans, 2):
            for span in _all(scope_spans, 2):
                yield _span(span)


def _span(raw: bytes) -> LogSpan:
    found = _last(raw)
    trace, span, parent = (_bytes(found.get(number)).hex() for number in (1, 2, 4))
    name, attributes = _bytes(found.get(5)).decode(), dict(_attributes(raw))
    payload = next((str(attributes[key]) for key in _SAID if key in attributes), "")
    said = said_digest(trace, span, name, payload)
    start, end = _int(found.get(7)), _int(found.get(8))
    return LogSpan(trace, span, parent, name, start, end, attributes, bytes_digest(raw), said)


def _attributes(span: bytes) -> Iterator[tuple[str, str | int]]:
    for attribute in _all(span, 9):
        pair = _last(attribute)
        value = _last(_bytes(pair.get(2)))
        if 1 in value:
            yield _bytes(pair.get(1)).decode(), _bytes(value[1]).decode()
        elif 3 in value:
            yield _bytes(pair.get(1)).decode(), _int(value[3])


def _last(raw: bytes) -> dict[int, Value]:
    """The last value of each field, as protobuf has it for fields that are not repeated."""
    return dict(fields(raw))


def _all(raw: bytes, wanted: int) -> list[bytes]:
    return [_bytes(value) for number, value in fields(raw) if number == wanted]


def _bytes(value: Value | None) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number in the place of bytes")  # noqa: TRY004 - the bytes are wrong, not the caller
    return value or b""


def _int(value: Value | None) -> int:
    if isinstance(value, bytes):
        raise ValueError("bytes in the place of a number")  # noqa: TRY004
    return value or 0


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(raw) and shift < 70:
        byte = raw[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise ValueError(f"no number at byte {at}")
