"""JSON as evaluators take it: strict, bounded in depth and in the size of its numbers."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn

from lodestream_evals.evaluators._errors import EvaluatorError
from lodestream_evals.lenient_json import to_json

MAX_DEPTH: Final = 200
"""Levels of a value that is judged."""
_MAX_BITS = 1_024  # an integer of more is no finite float
_MAX_DIGITS = 300
_NEAR = 20


class NotJsonError(ValueError):
    """A text is not JSON; the message says where it breaks."""


def parse(text: str) -> Any:
    """The value.

    Raises NotJsonError for what is no JSON, and for what is not taken: NaN, numbers beyond a float's, keys given twice,
    and more levels than MAX_DEPTH.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_float, parse_int=_int, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        near = text[max(error.pos - _NEAR, 0) : error.pos + _NEAR]
        raise NotJsonError(f"{error.msg} at line {error.lineno}, column {error.colno}, near {near!r}") from None
    except RecursionError:
        raise NotJsonError(f"it is nested deeper than {MAX_DEPTH} levels") from None
    if is_too_deep(value):
        raise NotJsonError(f"it is nested deeper than {MAX_DEPTH} levels")
    return value


def plain(value: Any, named: str) -> Any:
    """The value as JSON has it: what JSON does not know (objects, tuples, NaN) as its fields, list or text.

    Raises EvaluatorError for more levels than MAX_DEPTH.
    """
    if is_too_deep(value):
        raise EvaluatorError(f"{named} is nested deeper than {MAX_DEPTH} levels")
    return value if is_json(value) else json.loads(to_json(value).encode("utf-8", "replace"))


def canonical(value: Any) -> str:
    """The one text of a value: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def is_too_deep(value: Any) -> bool:
    """Whether it has more than MAX_DEPTH levels, or never ends."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = list({id(below): below for item in level for below in _inside(item)}.values())
        if not level:
            return False
    return True


def is_json(value: Any, *, shared: bool = False) -> bool:
    """Whether all of it is what JSON knows, and nothing is in it twice, unless `shared`. Not for what is too deep.

    What is shared again and again is small in memory and endless as a text.
    """
    return _is_json(value, set(), shared=shared)


def _is_json(value: Any, seen: set[int], *, shared: bool) -> bool:
    if type(value) is not dict and type(value) is not list:
        return _is_scalar(value)
    if id(value) in seen:
        return shared
    seen.add(id(value))
    if type(value) is dict and not all(type(key) is str and _encodable(key) for key in value):
        return False
    return all(_is_json(item, seen, shared=shared) for item in _inside(value))


def _inside(item: Any) -> Iterable[Any]:
    if type(item) is dict:
        return item.values()
    return item if type(item) is list or type(item) is tuple else ()


def _is_scalar(item: Any) -> bool:
    if item is None or type(item) is bool:
        return True
    if type(item) is str:
        return _encodable(item)
    if type(item) is int:
        return item.bit_length() < _MAX_BITS
    return type(item) is float and math.isfinite(item)


def _encodable(text: str) -> bool:
    """Whether it is without lone surrogates."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _refuse(constant: str) -> NoReturn:
    raise NotJsonError(f"{constant} is no JSON number")


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise NotJsonError(f"the number {digits[:_NEAR]} is beyond what can be kept")
    return number


def _int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise NotJsonError(f"a number has {len(digits):,} digits, more than {_MAX_DIGITS}")
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise NotJsonError(f"the key {twice!r:.60} is told twice")
    return entries
