"""Protobuf's wire format, written and read field by field.

Importing protobuf's library takes longer than importing all of the SDK; its message objects cost four times as much.
"""

from collections.abc import Iterator
from struct import Struct
from struct import error as StructError  # noqa: N812 - it is a class
from typing import NamedTuple

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_PACK_FIXED64 = Struct("<Q").pack
_SHORT = tuple(bytes((number,)) for number in range(0x80))
_LATEST = (1 << 64) - 1


def varint(number: int) -> bytes:
    """An unsigned number, base 128."""
    if number < 0x80:
        return _SHORT[number]
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def fixed64(number: int) -> bytes:
    """A time; one that has no place in 64 bits becomes the nearest that has."""
    try:
        return _PACK_FIXED64(number)
    except StructError:
        return _PACK_FIXED64(min(max(int(number), 0), _LATEST))


def delimited(tag: bytes, payload: bytes) -> bytes:
    """A field of bytes, text or a message."""
    return b"".join((tag, varint(len(payload)), payload))


def text(value: str) -> bytes:
    """UTF-8; what has no place in it becomes "?"."""
    try:
        return value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "replace")


class Field(NamedTuple):
    """One field of a message."""

    number: int
    value: int | bytes
    """Bytes of a text or a message; numbers of a fixed size are bytes too."""
    raw: bytes
    """The whole of it, with its tag."""


def fields(message: bytes) -> Iterator[Field]:
    """In their order. Raises ValueError where the bytes are no message; the fields before are given."""
    at = 0
    while at < len(message):
        begin = at
        tag, at = _varint(message, at)
        kind, value = tag & 7, b""
        if not tag >> 3:
            raise ValueError("a field has no number")
        if kind == _VARINT:
            number, at = _varint(message, at)
            yield Field(tag >> 3, number, message[begin:at])
            continue
        if kind == _DELIMITED:
            size, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"a field has the unknown wire type {kind}")
        value, at = message[at : at + size], at + size
        if at > len(message):
            raise ValueError("a field ends beyond its message")
        yield Field(tag >> 3, value, message[begin:at])


def submessages(message: bytes, number: int) -> Iterator[bytes]:
    """What is in a field of messages, texts or bytes. Raises ValueError like `fields`."""
    for field in fields(message):
        if field.number == number and isinstance(field.value, bytes):
            yield field.value


def signed(number: int) -> int:
    """An int32 or int64 from its varint."""
    return number - (1 << 64) if number >> 63 else number


def _varint(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 70:
        if at >= len(message):
            raise ValueError("a number is cut short")
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ValueError("a number has more than 64 bits")
