"""OTLP attribute values as what columns and messages take. Whatever an emitter sends, nothing here raises."""

import base64
import json
import math
import re
from typing import Any

import orjson
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

MAX_TOKENS = 2**48
"""Of one kind in one span: beyond any model, and thousands of spans add up to a bigint."""
MAX_PICOS = 10**18
"""Picodollars of one kind in one span: a million US dollars."""
MAX_BIGINT = 2**63 - 1
MAX_NAME = 512
"""Characters of a name, an id or another text that is indexed or shown in a list."""
MAX_KINDS = 100
"""Kinds of usage, or of cost, in one span."""
MAX_PREVIEW = 200
TEXT, LENGTH, AMOUNT, TIME, ENTRIES = "text", "length", "amount", "time", "entries"
"""What a Cleaner counts: characters that Postgres or UTF-8 lacks, texts cut, amounts clamped or dropped, instants moved
or dropped, entries of a list or map dropped.
"""
_MAX_DEPTH = 64
_MAX_WRITTEN_DEPTH = 200
"""Of JSON that orjson does not write as it is; it writes up to 254."""
_MAX_NUMBER = 40
_MAX_BITS = 1_000  # of a whole number; a double has room for 1,024
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_decode = json.JSONDecoder(parse_constant=str).decode  # json.loads would make a decoder each time, 1 µs


class Cleaner:
    """Brings values within what rows and messages hold, and counts what it changed."""

    __slots__ = ("changes",)

    def __init__(self, changes: dict[str, int] | None = None) -> None:
        self.changes: dict[str, int] = {} if changes is None else changes
        """How often, by kind."""

    def count(self, kind: str, times: int = 1) -> None:
        """Something was changed."""
        self.changes[kind] = self.changes.get(kind, 0) + times

    def text(self, value: str) -> str:
        """A text without NUL characters, which Postgres lacks, and without lone surrogates, which UTF-8 lacks."""
        if "\0" not in value and (value.isascii() or _is_unicode(value)):
            return value
        self.count(TEXT)
        return _UNSTORABLE.sub(_REPLACEMENT, value)

    def name(self, value: str) -> str:
        """A text of at most MAX_NAME characters."""
        if len(value) <= MAX_NAME and value.isascii() and "\0" not in value:
            return value
        if len(value) > MAX_NAME:
            self.count(LENGTH)
            value = value[:MAX_NAME]
        return self.text(value)

    def amount(self, value: Any, most: int = MAX_TOKENS) -> int | None:
        """A count of something: a whole number from 0 to `most`, clamped from above; None for anything else."""
        if type(value) is int and 0 <= value <= most:
            return value
        if isinstance(value, float) and 0 <= value <= most:
            return int(value)
        self.count(AMOUNT)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return most if is_number and most < value < math.inf else None


def text_of(value: AnyValue, clean: Cleaner) -> str | None:
    """A value as text: strings as they are, anything else as JSON; None for an empty value."""
    if text := value.string_value:  # most are texts, and asking which costs as much as reading
        return text
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return ""
    return None if kind is None else to_json(plain(value), clean)


def number_of(value: AnyValue, clean: Cleaner) -> int | float | None:
    """A value as a finite number, also where it was sent as text; None where it is none."""
    match value.WhichOneof("value"):
        case "int_value":
            return value.int_value
        case "double_value" if math.isfinite(value.double_value):
            return value.double_value
        case "string_value" if (number := _number(value.string_value)) is not None:
            return number
        case None:
            return None
    clean.count(AMOUNT)
    return None


def texts_of(value: AnyValue, clean: Cleaner) -> list[str]:
    """A list of texts: an array, JSON text of one, or a text with commas."""
    if value.HasField("array_value"):
        return [text for item in value.array_value.values if (text := text_of(item, clean))]
    text = text_of(value, clean) or ""
    parsed = parse(text) if text.startswith("[") else None
    items = parsed if isinstance(parsed, list) else text.split(",")
    return [item.strip() if isinstance(item, str) else to_json(item, clean) for item in items if item not in ("", None)]


def plain(value: AnyValue, depth: int = 0) -> Any:
    """A value as JSON has it. Bytes become base64, numbers that JSON lacks become text, depths are cut."""
    kind = value.WhichOneof("value")
    match kind:
        case None:
            return None
        case "double_value":
            return value.double_value if math.isfinite(value.double_value) else str(value.double_value)
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case "array_value" | "kvlist_value" if depth >= _MAX_DEPTH:
            return "…"
        case "array_value":
            return [plain(item, depth + 1) for item in value.array_value.values]
        case "kvlist_value":
            return {item.key: plain(item.value, depth + 1) for item in value.kvlist_value.values}
    return getattr(value, kind)


def parse(text: str) -> Any:
    """JSON text as its value; None when it is none, or nests more than a thousand levels.

    Escapes in it can write what no string of protobuf holds: texts go through a Cleaner or to_json() before they are
    kept or answered with.
    """
    try:
        return _decode(text)
    except ValueError:
        return None
    except RecursionError:  # which depends on how deep the caller is; orjson has a limit of its own
        return _or_none(text)


def mapping_of(value: AnyValue, clean: Cleaner) -> dict[str, Any]:
    """A value that should be an object: one, or JSON text of one; empty otherwise."""
    found = plain(value) if value.HasField("kvlist_value") else parse(text_of(value, clean) or "")
    return {str(key): item for key, item in found.items()} if isinstance(found, dict) else {}


def to_json(value: Any, clean: Cleaner | None = None) -> str:
    """JSON text of a plain value: with no NUL characters and no lone surrogates, whatever is in the value."""
    clean = clean or Cleaner()
    try:
        text = orjson.dumps(value).decode()
    except TypeError:  # a lone surrogate, a whole number of more than 64 bits, or too deep
        return json.dumps(_cleaned(value, clean), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text if "\\u0000" not in text else orjson.dumps(_cleaned(value, clean)).decode()


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _cleaned(value: Any, clean: Cleaner, depth: int = 0) -> Any:
    """A plain value with clean texts and keys, depths cut, and no numbers that readers of JSON have no room for."""
    if isinstance(value, str):
        return clean.text(value)
    if isinstance(value, list | dict) and depth >= _MAX_WRITTEN_DEPTH:
        return "…"
    if isinstance(value, list):
        return [_cleaned(item, clean, depth + 1) for item in value]
    if isinstance(value, dict):
        return {clean.text(key): _cleaned(item, clean, depth + 1) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None  # as orjson has it
    return str(value) if isinstance(value, int) and value.bit_length() > _MAX_BITS else value


def _or_none(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _number(text: str) -> int | float | None:
    if len(text) > _MAX_NUMBER:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
