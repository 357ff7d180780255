"""Any value as text, now: it may change as soon as the caller goes on. Never raises, and is bounded.

What JSON's own encoder takes, it gets. What it refuses (cycles, NaN, odd keys) or what is very large goes a second,
careful way.
"""

import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import uuid
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

MAX_CHARS = 400_000
"""Characters of one encoded value. Input and output together stay below what the log takes in one record."""
_MAX_DEPTH = 32
_MAX_ITEMS = 10_000  # a container with more is not tried in one go
_MAX_REPR = 1_000
_CUT = "…"
_SCALARS = (str, int, float, bool, type(None))


def to_text(value: Any) -> str:
    """Strings as they are, everything else as JSON; at most about MAX_CHARS characters."""
    if type(value) is str:
        return value if len(value) <= MAX_CHARS else _shortened(value, MAX_CHARS)
    return to_json(value)


def to_json(value: Any) -> str:
    """JSON text; containers are cut from the end until it is short enough."""
    try:
        if not _is_huge(value):
            text = _encoder.encode(value)
            if len(text) <= MAX_CHARS:
                return text
    except Exception:  # noqa: S110 - whatever the reason, the careful way copes
        pass
    try:
        return json.dumps(_Careful().plain(value, 0), ensure_ascii=False, separators=(",", ":"))
    except Exception as error:
        return json.dumps(f"<{type(value).__name__} could not be encoded: {type(error).__name__}>")


def _is_huge(value: Any) -> bool:
    """Looks one level deep, where arguments and message lists show their size."""
    if isinstance(value, dict):
        return len(value) > _MAX_ITEMS or any(map(_is_long, value.values()))
    return _is_long(value)


def _is_long(value: Any) -> bool:
    kind = type(value)
    if kind is str or kind is bytes:
        return len(value) > MAX_CHARS
    return (kind is list or kind is dict or kind is tuple or kind is set) and len(value) > _MAX_ITEMS


_DEFAULT_REPR: Any = object.__repr__


class _Careful:
    """Walks a value with a budget of characters, knowing what it is inside of."""

    def __init__(self) -> None:
        self._left = MAX_CHARS
        self._inside: set[int] = set()

    def plain(self, value: Any, depth: int) -> Any:
        if isinstance(value, _SCALARS):
            return self._scalar(value)
        if depth >= _MAX_DEPTH or id(value) in self._inside:
            return _CUT
        self._inside.add(id(value))
        try:
            if isinstance(value, Mapping):
                return self._mapping(value, depth)
            if isinstance(value, Sequence | AbstractSet) and not isinstance(value, bytes | bytearray | memoryview):
                return self._items(value, depth)
            return self.plain(jsonable(value), depth + 1)
        except Exception as error:
            return f"<{type(value).__name__} could not be encoded: {type(error).__name__}>"
        finally:
            self._inside.discard(id(value))

    def _scalar(self, value: Any) -> Any:
        if isinstance(value, str):
            text = _shortened(str(value), max(self._left, 0))
            self._left -= len(text)
            return text
        self._left -= 8
        if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):  # noqa: PLR0124
            return {"inf": "Infinity", "-inf": "-Infinity"}.get(str(value), "NaN")
        if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 1024:
            return f"<an integer of {value.bit_length()} bits>"
        return value

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for key, item in list(value.items()):
            if self._left <= 0:
                plain[_CUT] = f"{len(value) - len(plain)} more"
                break
            name = key if isinstance(key, str) else _described(key)
            self._left -= len(name) + 6
            plain[name[:_MAX_REPR]] = self.plain(item, depth + 1)
        return plain

    def _items(self, value: Sequence[Any] | AbstractSet[Any], depth: int) -> list[Any]:
        plain: list[Any] = []
        for item in list(value):
            if self._left <= 0:
                plain.append(f"{_CUT} {len(value) - len(plain)} more")
                break
            self._left -= 2
            plain.append(self.plain(item, depth + 1))
        return plain


def jsonable(value: Any) -> Any:
    """What stands for an object that JSON does not know: its fields, its text, or its description."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if callable(dump := getattr(type(value), "model_dump", None)):
        return dump(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return _text_of_bytes(bytes(value[:_MAX_ITEMS]), len(value))
    if isinstance(value, uuid.UUID | pathlib.PurePath | decimal.Decimal | dt.timedelta):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence | AbstractSet):
        return list(value)
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        size = getattr(value, "size", 1)
        small = isinstance(size, int) and size <= _MAX_ITEMS
        return value.tolist() if small else f"<{type(value).__name__} {getattr(value, 'shape', '')}>"
    return _described(value)


def _described(value: Any) -> str:
    if isinstance(value, BaseException):
        return _shortened(f"{type(value).__name__}: {value}", _MAX_REPR)
    if type(value).__repr__ is _DEFAULT_REPR:
        return f"<{type(value).__module__}.{type(value).__qualname__}>"
    return _shortened(repr(value), _MAX_REPR)


def _text_of_bytes(head: bytes, size: int) -> str:
    try:
        text = head.decode()
    except UnicodeDecodeError:
        return f"<{size} bytes>"
    return text if size == len(head) else f"{text}{_CUT} ({size} bytes)"


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}{_CUT} ({len(text)} characters)"


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=jsonable)
