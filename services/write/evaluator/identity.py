"""The ids of what is told follow from run, item and repetition: whoever tells a result says the same ids. Pure."""

import hashlib
import json
import uuid

_OURS = uuid.UUID("6ce5c7ac-4d0b-5a52-9f6c-0f2d3b0f4a6e")


def event_id(*names: str | int) -> str:
    """A UUIDv5 of names, be it of an event or of a score."""
    return str(uuid.uuid5(_OURS, _joined(names)))


def trace_id(*names: str | int) -> bytes:
    """16 bytes."""
    return _digest(names)[:16]


def span_id(*names: str | int) -> bytes:
    """8 bytes."""
    return _digest(names)[:8]


def _digest(names: tuple[str | int, ...]) -> bytes:
    return hashlib.sha256(_joined(names).encode()).digest()


def _joined(names: tuple[str | int, ...]) -> str:
    return json.dumps(names, separators=(",", ":"), ensure_ascii=True)
