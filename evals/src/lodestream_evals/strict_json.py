"""A value as JSON text that says exactly the value, or the place where that can't be."""

import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import pathlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from lodestream_evals.lenient_json import jsonable

MAX_DEPTH = 60
"""Containers in each other at most; the server takes a few more."""
_TEXTS = (dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID, pathlib.PurePath, decimal.Decimal)


class NotJsonError(ValueError):
    """A value that can't be written as JSON without losing something; `field` is the place, like "input.lines[3]"."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field, self.reason = field, reason


def strict_json(value: Any, field: str) -> str:
    """JSON text. Dataclasses, pydantic's models, datetimes and the like are written as observations write them.

    Raises NotJsonError, with a place that begins with `field`.
    """
    return json.dumps(plain(value, field), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def canonical_json(value: Any, field: str) -> str:
    """Write a value as the text that is the same for the same value: keys are sorted.

    Raises NotJsonError.
    """
    plain_value = plain(value, field)
    return json.dumps(plain_value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)


def strict_object(value: Any, field: str) -> str:
    """JSON text of an object; "" for None. What is no mapping is its entry "metadata".

    Raises NotJsonError.
    """
    if value is None:
        return ""
    plain_value = plain(value, field)
    return json.dumps(
        plain_value if isinstance(plain_value, dict) else {"metadata": plain_value},
        ensure_ascii=False,
        separators=(",", ":"),
    )


def plain(value: Any, field: str, depth: int = 0) -> Any:
    """The value in JSON's own types.

    Raises NotJsonError.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return plain(value.value, field, depth)
    if isinstance(value, str):
        return _text(str.__str__(value), field)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotJsonError(field, f"{float(value)} is no JSON")
        return float(value)
    if depth >= MAX_DEPTH:
        raise NotJsonError(field[:200], f"is nested more than {MAX_DEPTH} deep, or contains itself")
    if isinstance(value, Mapping):
        return dict(_entries(value, field, depth))
    if isinstance(value, AbstractSet):
        items = [plain(item, f"{field}[{number}]", depth + 1) for number, item in enumerate(value)]
        return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))  # a set's order is not the same twice
    if isinstance(value, bytes | bytearray | memoryview):
        return _text_of_bytes(bytes(value), field)
    if isinstance(value, Sequence):
        return [plain(item, f"{field}[{number}]", depth + 1) for number, item in enumerate(value)]
    return plain(_stand_in(value, field), field, depth + 1)


def _stand_in(value: Any, field: str) -> Any:
    """What says an object."""
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return value.tolist()
    is_record = dataclasses.is_dataclass(value) and not isinstance(value, type)
    if is_record or callable(getattr(type(value), "model_dump", None)) or isinstance(value, _TEXTS):
        return jsonable(value)
    raise NotJsonError(field, f"is of the type {type(value).__qualname__}, which can't be written as JSON")


def _entries(value: Mapping[Any, Any], field: str, depth: int) -> Iterator[tuple[str, Any]]:
    seen = set()
    for key, item in value.items():
        name = key.value if isinstance(key, enum.Enum) else key
        if isinstance(name, int) and not isinstance(name, bool):
            name = str(name)
        if not isinstance(name, str):
            raise NotJsonError(field, f"has the key {key!r:.100}; keys are texts")
        if name in seen:
            raise NotJsonError(field, f"has the key {name!r:.100} twice")
        seen.add(name)
        yield _text(str.__str__(name), field), plain(item, f"{field}.{name}", depth + 1)


def _text(value: str, field: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise NotJsonError(field, "has half of a surrogate pair, which no UTF-8 has") from None
    return value


def _text_of_bytes(value: bytes, field: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise NotJsonError(field, f"is {len(value)} bytes that are no text") from None
