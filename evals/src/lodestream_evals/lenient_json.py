"""Any value as text, now: it may change as soon as the caller goes on. Never raises, and is bounded.

What JSON's own encoder takes, it gets. What it refuses (cycles, NaN, odd keys) or what is very large goes a second,
careful way.
"""

import codecs
import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from json.encoder import encode_basestring
from typing import Any

MAX_CHARS = 400_000
"""Characters of one encoded value. Input and output together stay below what the log takes in one record."""
_MAX_DEPTH = 32
_MAX_ITEMS = 16_000  # what is more than so many items in all is not tried in one go
_CHARS_PER_ITEM = 32  # characters that count as one
_MAX_BYTES = 10_000
_MAX_BITS = 1_024
_MAX_PLAIN_INT = 1 << 63
_MAX_REPR = 1_000
_SINGLE = frozenset({int, float, bool, type(None)})
_SAMPLED = 8  # items of a container that are looked at one by one
_CUT = "…"
_SCALARS = (str, int, float, bool, type(None))


def to_text(value: Any, most: int = MAX_CHARS) -> str:
    """Strings as they are, everything else as JSON; at most about `most` characters."""
    if issubclass(type(value), str):
        return _shortened(str.__str__(value), most)
    return to_json(value, most)


def to_json(value: Any, most: int = MAX_CHARS) -> str:
    """JSON text; containers are cut from the end until it is short enough."""
    kind = type(value)
    if kind is str and 6 * len(value) < most:  # an escaped character has up to six; metadata are such texts and numbers
        return encode_basestring(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is int and -_MAX_PLAIN_INT < value < _MAX_PLAIN_INT:
        return int.__repr__(value)
    try:
        text = _AtOnce().encode(value)
        if len(text) <= most:
            return text
    except Exception:  # noqa: S110 - whatever the reason, the careful way copes
        pass
    try:
        return json.dumps(plain(value, most), ensure_ascii=False, separators=(",", ":"))
    except Exception as error:
        return json.dumps(_undescribed(value, error))


def encodable(text: str) -> str:
    """Return a text with "?" for each half of a surrogate pair, which JSON may hold and UTF-8 may not."""
    return text.encode("utf-8", "replace").decode()


def storable(text: str) -> str:
    """Return a text without what no database takes: halves of surrogate pairs and NUL characters."""
    return encodable(text).replace("\0", "\N{REPLACEMENT CHARACTER}")


def plain(value: Any, most: int = MAX_CHARS) -> Any:
    """A copy of JSON's types: dicts, lists, texts, numbers; at most about `most` characters. Never raises."""
    try:
        return _Careful(most).plain(value, 0)
    except Exception as error:
        return _undescribed(value, error)


class _AtOnce:
    """JSON's own encoder, for what is weighed first: it neither ends early nor knows shared parts."""

    def __init__(self) -> None:
        self._room = _MAX_ITEMS

    def encode(self, value: Any) -> str:
        """Raises an exception of whatever kind where the careful way is needed."""
        self._weigh((value,))
        encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=self._default)
        return encoder.encode(value)

    def _default(self, value: Any) -> Any:
        plain = jsonable(value)
        self._weigh((plain,))
        return plain

    def _weigh(self, items: Iterable[Any]) -> None:
        for item in items:
            kind = type(item)
            if kind is str or kind is bytes:
                self._room -= len(item) // _CHARS_PER_ITEM
            elif kind is dict or kind is list or kind is tuple or kind is set:
                self._room -= len(item) + 1
                if self._room >= 0:
                    self._weigh(item.values() if kind is dict else item)
            if self._room < 0:
                raise ValueError("too large to be encoded in one go")


_DEFAULT_REPR: Any = object.__repr__


class _Careful:
    """Walks a value with a budget of characters, knowing what it is inside of."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._inside: set[int] = set()

    def plain(self, value: Any, depth: int) -> Any:
        if issubclass(type(value), _SCALARS):
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
            return _undescribed(value, error)
        finally:
            self._inside.discard(id(value))

    def _scalar(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(str.__str__(value))
        self._left -= 8
        if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):  # noqa: PLR0124
            return {"inf": "Infinity", "-inf": "-Infinity"}.get(str(value), "NaN")
        if isinstance(value, int):
            bits = value.bit_length()
            self._left -= bits // 3
            return value if bits <= _MAX_BITS else f"<an integer of {bits} bits>"
        return value

    def _text(self, value: str) -> str:
        room = max(self._left, 0)
        text = _shortened(value, room)
        size = len(encode_basestring(text))
        if size > room + _MAX_REPR:  # much of it is escaped
            text = _shortened(value, room // 6)
        self._left -= size
        return text

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for key, item in list(islice(value.items(), self._most_items())):
            if self._left <= 0:
                plain[_CUT] = f"{len(value) - len(plain)} more"
                break
            name = key if isinstance(key, str) else _described(key)
            self._left -= len(name) + 6
            plain[name[:_MAX_REPR]] = self.plain(item, depth + 1)
        return plain

    def _items(self, value: Sequence[Any] | AbstractSet[Any], depth: int) -> list[Any]:
        plain: list[Any] = []
        for item in list(islice(value, self._most_items())):
            if self._left <= 0:
                plain.append(f"{_CUT} {len(value) - len(plain)} more")
                break
            self._left -= 4
            plain.append(self.plain(item, depth + 1))
        return plain

    def _most_items(self) -> int:
        """Take as many items as there can be room for, and one to notice that there are more."""
        return max(self._left, 0) // 4 + 1


def jsonable(value: Any) -> Any:
    """What stands for an object that JSON does not know: its fields, its text, or its description."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if callable(getattr(type(value), "model_dump", None)):
        return _dumped(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return _text_of_bytes(bytes(value[:_MAX_BYTES]), len(value))
    if isinstance(value, uuid.UUID | pathlib.PurePath | decimal.Decimal | dt.timedelta):
        return str(value)
    if isinstance(value, Mapping):
        return dict(islice(value.items(), _MAX_ITEMS + 1))
    if isinstance(value, Sequence | AbstractSet):
        return list(islice(value, _MAX_ITEMS + 1))
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        size = getattr(value, "size", 1)
        small = isinstance(size, int) and size <= _MAX_ITEMS
        return value.tolist() if small else f"<{type(value).__name__} {getattr(value, 'shape', '')}>"
    return _described(value)


def _dumped(model: Any) -> Any:
    """A model of pydantic's as plain data; of one that is large, the first items of its fields."""
    most = _MAX_ITEMS
    content = getattr(model, "__dict__", {})
    if _items_in(content) <= most or not hasattr(type(model), "model_copy"):
        return type(model).model_dump(model)
    cut: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, list | tuple) and (size := _items_in(value)) > most:
            cut[name] = value[: most * len(value) // size]
        elif isinstance(value, dict) and (size := _items_in(value)) > most:
            cut[name] = dict(islice(value.items(), most * len(value) // size))
        elif _items_in(value) > most:
            cut[name] = f"<{type(value).__name__}, too large>"
    dumped: dict[str, Any] = type(model).model_dump(model.model_copy(update=cut), warnings=False)
    for name, kept in cut.items():
        if isinstance(dumped.get(name), list | tuple):
            dumped[name] = [*dumped[name], f"{_CUT} {len(content[name]) - len(kept)} more"]
    return dumped


def _items_in(value: Any, depth: int = 0) -> int:
    """About how many items a value has in all: large containers are judged by their first, middle and last item."""
    if type(value) in _SINGLE:
        return 1
    if isinstance(value, str | bytes):
        return 1 + len(value) // _CHARS_PER_ITEM
    if isinstance(value, dict):
        items: Any = list(value.values()) if len(value) <= _SAMPLED else _sample(list(islice(value.values(), _SAMPLED)))
    elif isinstance(value, list | tuple):
        items = value if len(value) <= _SAMPLED else _sample(value)
    elif hasattr(type(value), "model_fields"):
        return _items_in(value.__dict__, depth)
    else:
        return 1
    if not items or depth >= _MAX_DEPTH:
        return 1 + len(value)
    return 1 + sum(_items_in(item, depth + 1) for item in items) * len(value) // len(items)


def _sample(items: Any) -> Any:
    return items[0], items[len(items) // 2], items[-1]


def _described(value: Any) -> str:
    try:
        if isinstance(value, BaseException):
            return _shortened(f"{type(value).__name__}: {value}", _MAX_REPR)
        if type(value).__repr__ is _DEFAULT_REPR:
            return f"<{type(value).__module__}.{type(value).__qualname__}>"
        return _shortened(repr(value), _MAX_REPR)
    except Exception as error:
        return _undescribed(value, error)


def _undescribed(value: Any, error: Exception) -> str:
    return f"<{type(value).__name__} could not be encoded: {type(error).__name__}>"


def _text_of_bytes(head: bytes, size: int) -> str:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head, final=size == len(head))
    except UnicodeDecodeError:
        return f"<{size} bytes>"
    return text if size == len(head) else f"{text}{_CUT} ({size} bytes)"


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}{_CUT} ({len(text)} characters)"
