"""Trace and span ids (W3C Trace Context: 16 and 8 random bytes, never all zeros)."""

import hashlib
import os
import random
import string
import time
import uuid

_random = random.Random()  # noqa: S311 - ids are no secrets. Our own: a program may seed the global one
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def new_trace_id() -> int:
    return _random.getrandbits(128) or 1


def new_span_id() -> int:
    return _random.getrandbits(64) or 1


def new_event_id() -> str:
    """A UUIDv7 (RFC 9562, 5.7): milliseconds, then random bits."""
    bits = (time.time_ns() // 1_000_000) << 80 | _random.getrandbits(80)
    bits = bits & ~(0xF << 76) | 0x7 << 76
    bits = bits & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=bits & (1 << 128) - 1))


def seeded_trace_id(seed: str) -> str:
    """Return 32 hex digits that are the same for the same seed: the first 16 bytes of its SHA-256."""
    return hashlib.sha256(seed.encode("utf-8", "replace")).hexdigest()[:32]


def parse_id(text: str, digits: int) -> int:
    """The id that so many hex digits name.

    Raises ValueError naming what is wrong.
    """
    is_hex = isinstance(text, str) and len(text) == digits and not set(text) - set(string.hexdigits)
    number = int(text, 16) if is_hex else 0
    if not number:
        raise ValueError(f"{text!r} is not an id: {digits} hex digits, not all zeros")
    return number
