"""Segments: frames one after the other, in a file or, where there is no disk to be had, in memory."""

import contextlib
import os
import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import NamedTuple, Protocol

from lodestream._wire.payloads import EVENT, count_spans

# --- Frames -----------------------------------------------------------------------------------------------------------
# Frames: how a segment's bytes are told apart, also after a crash cut them or a disk changed them.
#
# A frame: magic u32, length u32, crc32 of the payload u32, payload; numbers are little-endian.

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


# --- Segments ---------------------------------------------------------------------------------------------------------
# Segments: frames one after the other, in a file or, where there is no disk to be had, in memory.


class Frame(NamedTuple):
    """One that is not settled yet."""

    begin: int
    """Where its payload begins."""
    end: int
    spans: int
    """In it; an event counts as one."""
    event: bool = False
    """Whether it holds an Event, not spans."""


class Storage(Protocol):
    """Where a segment's bytes are. All raise OSError."""

    def append(self, data: bytes, at: int) -> None: ...
    def read(self, begin: int, end: int) -> bytes: ...
    def sync(self) -> None: ...
    def reset(self) -> None: ...
    def close(self) -> None: ...
    def delete(self) -> None: ...


class Segment:
    """Frames in the order they came; what is settled (delivered or given up) is a prefix."""

    def __init__(self, storage: Storage, *, size: int = 0, on_disk: bool) -> None:
        self.storage, self.size, self.on_disk = storage, size, on_disk
        self.frames: deque[Frame] = deque()
        self.spans = 0
        """In these frames."""
        self.in_flight = False

    @property
    def pending_bytes(self) -> int:
        """From the first unsettled frame on."""
        return self.size - self.frames[0].begin if self.frames else 0

    def append(self, payloads: Sequence[tuple[bytes, int]]) -> None:
        """Add payloads of so many spans, all or none. Raises OSError."""
        data = b"".join(framed(payload) for payload, _ in payloads)
        self.storage.append(data, self.size)
        for payload, spans in payloads:
            begin = self.size + HEADER_BYTES
            self.size = begin + len(payload)
            self._add(Frame(begin, self.size, spans, is_event(payload)))

    def settle(self, frames: int) -> None:
        """So many, from the left, are done with."""
        for _ in range(frames):
            self.spans -= self.frames.popleft().spans

    def read(self, frames: Sequence[Frame]) -> list[bytes]:
        """The payloads of neighbouring frames. Raises OSError."""
        first = frames[0].begin
        data = self.storage.read(first, frames[-1].end)
        return [data[frame.begin - first : frame.end - first] for frame in frames]

    def close(self) -> None:
        """Let go of the storage; it is opened again when needed."""
        with contextlib.suppress(OSError):
            self.storage.close()

    def put_down(self) -> None:
        """Let go of the storage for good; what holds nothing any more is deleted."""
        with contextlib.suppress(OSError):
            if self.frames:
                self.storage.close()
            else:
                self.storage.delete()

    def reset(self) -> None:
        """Begin anew with nothing, in the same place. Raises OSError."""
        self.storage.reset()
        self.size = 0

    def recover(self) -> list[bytes]:
        """Find the frames of a segment that a process left behind; gives what is damaged. Raises OSError."""
        data = self.storage.read(0, self.size)
        frames = find_frames(data)
        damaged = [data[begin:end] for begin, end in frames.bad]
        for begin, end in frames.payloads:
            if spans := _count_spans(data[begin:end]):
                self._add(Frame(begin, end, spans, is_event(data[begin : begin + 1])))
            else:
                damaged.append(data[begin - HEADER_BYTES : end])
        return damaged

    def _add(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.spans += frame.spans


class FileStorage:
    """A file that only its process writes to, opened when needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def append(self, data: bytes, at: int) -> None:
        descriptor = self._opened(os.O_RDWR | os.O_CREAT)
        try:
            self._write(descriptor, data, at)
        except OSError:
            os.ftruncate(descriptor, at)  # half a frame helps nobody, and the room may be needed
            raise

    def read(self, begin: int, end: int) -> bytes:
        data = os.pread(self._opened(os.O_RDWR), end - begin, begin)
        if len(data) != end - begin:
            raise OSError(f"{self.path} is shorter than what was written to it")
        return data

    def sync(self) -> None:
        descriptor = self._opened(os.O_RDWR)
        os.fsync(descriptor)
        if not os.fstat(descriptor).st_nlink:
            raise FileNotFoundError(f"{self.path} was deleted")

    def reset(self) -> None:
        os.ftruncate(self._opened(os.O_RDWR), 0)

    def close(self) -> None:
        descriptor, self._fd = self._fd, None
        if descriptor is not None:
            os.close(descriptor)

    def delete(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)

    def _opened(self, flags: int) -> int:
        if self._fd is None:
            self._fd = os.open(self.path, flags, 0o600)
        return self._fd

    @staticmethod
    def _write(descriptor: int, data: bytes, at: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, at)
            view, at = view[written:], at + written


class MemoryStorage:
    """A segment's bytes in memory, where there is no disk to be had."""

    def __init__(self) -> None:
        self._data = bytearray()

    def append(self, data: bytes, at: int) -> None:
        self._data[at:] = data

    def read(self, begin: int, end: int) -> bytes:
        return bytes(self._data[begin:end])

    def sync(self) -> None:
        pass

    def reset(self) -> None:
        self._data.clear()

    def close(self) -> None:
        pass

    def delete(self) -> None:
        self._data.clear()


def is_event(payload: bytes) -> bool:
    """Whether it holds an Event."""
    return payload.startswith(EVENT)


def _count_spans(payload: bytes) -> int:
    """1 for an event; 0 for what is neither one nor a ResourceSpans."""
    if is_event(payload):
        return 1
    try:
        return count_spans(payload)
    except ValueError:
        return 0
