"""Frames: how a segment's bytes are told apart, also after a crash cut them or a disk changed them.

A frame: magic u32, length u32, crc32 of the payload u32, payload; numbers are little-endian.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct

_HEADER = Struct("<4sII")
_MAGIC = b"LdF\x01"
HEADER_BYTES = _HEADER.size


@dataclass(frozen=True, slots=True)
class Found:
    """What is in a segment, as (begin, end) of bytes."""

    payloads: Sequence[tuple[int, int]]
    bad: Sequence[tuple[int, int]]
    """What is no frame, between frames that are."""
    torn: int
    """Bytes at the end that began a frame and were not finished: a write that a crash cut short."""


def framed(payload: bytes) -> bytes:
    """The frame of a payload, which is not empty: a disk's zeros would be one."""
    return _HEADER.pack(_MAGIC, len(payload), zlib.crc32(payload)) + payload


def find_frames(data: bytes) -> Found:
    """All intact frames. Past a bad one, looks for the next."""
    payloads, bad, at = [], [], 0
    while at < len(data):
        end = _frame_end(data, at)
        if end:
            payloads.append((at + HEADER_BYTES, end))
            at = end
            continue
        following = _next_frame(data, at + 1)
        if following is None:
            torn = _is_torn(data[at : at + HEADER_BYTES], len(data) - at)
            if not torn:
                bad.append((at, len(data)))
            return Found(payloads, bad, len(data) - at if torn else 0)
        bad.append((at, following))
        at = following
    return Found(payloads, bad, 0)


def _frame_end(data: bytes, at: int) -> int:
    """Where the intact frame that begins here ends; 0 when none does."""
    if len(data) - at < HEADER_BYTES:
        return 0
    magic, length, crc = _HEADER.unpack_from(data, at)
    end = at + HEADER_BYTES + int(length)
    intact = (
        magic == _MAGIC and length and end <= len(data) and zlib.crc32(memoryview(data)[at + HEADER_BYTES : end]) == crc
    )
    return end if intact else 0


def _next_frame(data: bytes, at: int) -> int | None:
    while (at := data.find(_MAGIC, at)) >= 0:
        if _frame_end(data, at):
            return at
        at += 1
    return None


def _is_torn(head: bytes, left: int) -> bool:
    """Whether these bytes, the last there are, begin a frame that ends beyond them."""
    if len(head) < HEADER_BYTES:
        return head.startswith(_MAGIC[: len(head)])
    magic, length, _crc = _HEADER.unpack(head)
    return bool(magic == _MAGIC and length > left - HEADER_BYTES)
