"""What a text may not be, wherever it stands in an event. Pure; lengths are in characters unless they say bytes."""

import re
from math import isfinite

from shared.runtime.refusal import InvalidError

MAX_ID_BYTES = 255
"""Such that the keys of the read models' indexes have room for several ids."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_line(text: str, path: str, *, least: int = 1, most: int) -> None:
    """Raises InvalidError when a text is not of this length, or has control characters."""
    check_text(text, path, least=least, most=most)
    if _CONTROL.search(text):
        raise InvalidError(path, "has a control character")


def check_text(text: str, path: str, *, least: int = 1, most: int | None = None) -> None:
    """Raises InvalidError when a text is not of this length, or has a NUL character."""
    if len(text) < least:
        raise InvalidError(path, "is missing")
    if most is not None and len(text) > most:
        raise InvalidError(path, f"has {len(text)} characters; at most {most} are taken")
    if "\0" in text:
        raise InvalidError(path, "has a NUL character")


def check_id(text: str, path: str) -> None:
    """Raises InvalidError when nothing can have this id."""
    check_line(text, path, most=MAX_ID_BYTES)
    if (size := len(text.encode())) > MAX_ID_BYTES:
        raise InvalidError(path, f"has {size} bytes; at most {MAX_ID_BYTES} are taken")


def check_bytes_id(value: bytes, path: str, *, size: int) -> None:
    """Raises InvalidError when an id that is given is not of this size, or all zeros."""
    if value and len(value) != size:
        raise InvalidError(path, f"has {len(value)} bytes instead of {size}")
    if value and not any(value):
        raise InvalidError(path, "is all zeros")


def check_finite(number: float, path: str) -> None:
    """Raises InvalidError for NaN and the infinities."""
    if not isfinite(number):
        raise InvalidError(path, f"{number} is no number")
