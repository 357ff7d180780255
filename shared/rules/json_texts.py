"""JSON texts in events: which can be taken, and the one text that all writings of a value have in common. Pure.

Two bytes make an empty list of sixty in memory, and of time to read it. What a text becomes is therefore counted in its
characters, before anything is built of it.
"""

import json
import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import orjson

from shared.runtime.refusal import InvalidError

MAX_DEPTH = 64
"""Of lists and objects within each other."""
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""Also one that does not end: whatever the text is, it is gone through once."""
_DEEPER = bytes.maketrans(b"[{]}", bytes([1, 1, 255, 255]))
_NO_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))


class _TwiceError(ValueError):
    """A name that an object has twice: readers do not agree which of the two holds."""


def check_json(text: str, path: str, *, most: int) -> Any:
    """The value of a JSON text of at most so many bytes; numbers of any size are exact.

    Raises InvalidError: it is none, too large or too deep, or an object in it has a name twice.
    """
    if not text:
        raise InvalidError(path, "is missing")
    if (size := len(text.encode())) > most:
        raise InvalidError(path, f"has {size} bytes; at most {most} are taken")
    if json_depth(text) > MAX_DEPTH:
        raise InvalidError(path, f"has more than {MAX_DEPTH} lists and objects within each other")
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidError(path, f"is no JSON: {error}") from None
    try:
        return json.loads(text, object_pairs_hook=_object)
    except _TwiceError as twice:
        raise InvalidError(path, f"has an object with {twice.args[0]!r} twice") from None


def check_json_object(text: str, path: str, *, most: int) -> dict[str, Any]:
    """The value of a JSON text that is an object, or is empty, which is {}.

    Raises InvalidError.
    """
    if not text:
        return {}
    value = check_json(text, path, most=most)
    if not isinstance(value, dict):
        raise InvalidError(path, "is no JSON object")
    return value


def count_json_values(text: str, *, enough: int = 0) -> int:
    """How many names and values a JSON text has at most, found without parsing it.

    An empty list or object counts as two. Up to `enough` the number may be larger than that by the punctuation within
    strings, which is much quicker to tell.
    """
    raw = text.encode()
    most = _punctuation(raw)
    return most if most <= enough else _punctuation(_STRING.sub(b"", raw))


def json_depth(text: str) -> int:
    """How many lists and objects of a JSON text are within each other, found without parsing it.

    Of a text that nests at most MAX_DEPTH the number may be larger by the brackets within strings, up to that.
    """
    raw = text.encode()
    if (opened := raw.count(b"[") + raw.count(b"{")) <= MAX_DEPTH:
        return opened
    steps = _STRING.sub(b"", raw).translate(_DEEPER, _NO_BRACKETS)
    return max(accumulate(memoryview(steps).cast("b")), default=0)


def values_in(value: Any) -> Iterator[Any]:
    """All names and values in a JSON value, however deep."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            waiting += value
        else:
            yield value


def canonical_json(value: Any) -> str:
    """The text of a JSON value: names sorted, no spaces, characters as they are."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def read_json(text: str) -> Any:
    """The value of a text that has been checked; of an empty one null."""
    return json.loads(text) if text else None


def is_same_json(one: str, other: str) -> bool:
    """Whether two texts that have been checked, or are empty, say the same. To say nothing is not to say null."""
    if one == other:
        return True
    return bool(one and other) and canonical_json(read_json(one)) == canonical_json(read_json(other))


def _punctuation(raw: bytes) -> int:
    return 1 + sum(map(raw.count, (b",", b":", b"[", b"{")))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _TwiceError(name)
        found[name] = value
    return found
