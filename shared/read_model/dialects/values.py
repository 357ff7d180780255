"""OTLP attribute values as what columns take. Whatever an emitter sends, nothing here raises."""

import base64
import json
import math
from typing import Any

import orjson
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

MAX_BIGINT = 2**63 - 1
MAX_NAME = 512
"""Characters of a name, an id or another text that is indexed or shown in a list."""
MAX_PREVIEW = 200
_MAX_DEPTH = 64
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_decode = json.JSONDecoder(parse_constant=str).decode  # json.loads would make a decoder each time, 1 µs


class Cleaner:
    """Cleans what Postgres or a reader could not take, and counts how often."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def text(self, value: str) -> str:
        """Without NUL characters."""
        if "\0" in value:
            self.count += 1
            return value.replace("\0", _REPLACEMENT)
        return value

    def name(self, value: str) -> str:
        """A text of at most MAX_NAME characters."""
        if len(value) > MAX_NAME:
            self.count += 1
            value = value[:MAX_NAME]
        return self.text(value) if "\0" in value else value

    def amount(self, value: Any) -> int | None:
        """A count of something: a whole number of at least 0 that a bigint holds; None for anything else."""
        if type(value) is int and 0 <= value <= MAX_BIGINT:
            return value
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            self.count += 1
            return None
        if value > MAX_BIGINT:
            self.count += 1
            return MAX_BIGINT
        return int(value)


def text_of(value: AnyValue) -> str | None:
    """A value as text: strings as they are, anything else as JSON; None for an empty value."""
    if text := value.string_value:  # most are texts, and asking which costs as much as reading
        return text
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return ""
    return None if kind is None else to_json(plain(value))


def number_of(value: AnyValue) -> int | float | None:
    """A value as a number, also where it was sent as text; None where it is none."""
    match value.WhichOneof("value"):
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value if math.isfinite(value.double_value) else None
        case "string_value":
            return _number(value.string_value)
    return None


def texts_of(value: AnyValue) -> list[str]:
    """A list of texts: an array, JSON text of one, or a text with commas."""
    if value.HasField("array_value"):
        return [text for item in value.array_value.values if (text := text_of(item))]
    text = text_of(value) or ""
    parsed = parse(text) if text.startswith("[") else None
    items = parsed if isinstance(parsed, list) else text.split(",")
    return [item.strip() if isinstance(item, str) else to_json(item) for item in items if item not in ("", None)]


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
    """JSON text as its value; None when it is none (or too deep)."""
    try:
        return _decode(text)
    except (ValueError, RecursionError):
        return None


def mapping_of(value: AnyValue) -> dict[str, Any]:
    """A value that should be an object: one, or JSON text of one; empty otherwise."""
    found = plain(value) if value.HasField("kvlist_value") else parse(text_of(value) or "")
    return {str(key): item for key, item in found.items()} if isinstance(found, dict) else {}


def to_json(value: Any) -> str:
    """JSON text of a plain value, NUL characters cleaned."""
    try:
        text = orjson.dumps(value).decode()
    except TypeError:  # a lone surrogate, or a number of more than 64 bits, that came as JSON
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("\\u0000", _REPLACEMENT)


def _number(text: str) -> int | float | None:
    if len(text) > 40:
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
