"""Answers as JSON documents: the contract's field names, numbers as numbers, times as RFC 3339, nothing left out."""

import json
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp


def document(message: Message) -> dict[str, Any]:
    """Every field by its name; null for what is absent, enums as their short lower-case names, ids as hex."""
    return {field.name: _value(message, field) for field in message.DESCRIPTOR.fields}


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """JSON in ASCII: whatever strings hold, it prints as harmlessly as it parses."""
    return json.dumps(value, indent=indent, ensure_ascii=True).replace("\x7f", "\\u007f")


def _value(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.is_repeated:
        return _many(field, value)
    if field.has_presence and not message.HasField(field.name):
        return None
    return _one(field, value)


def _many(field: Any, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        of = field.message_type.fields_by_name["value"]
        return {str(key): _one(of, value[key]) for key in sorted(value)}
    return [_one(field, each) for each in value]


def _one(field: Any, value: Any) -> Any:
    if isinstance(value, Timestamp):
        return value.ToJsonString()
    if isinstance(value, Message):
        return document(value)
    if isinstance(value, bytes):
        return value.hex()
    return _short_name(field.enum_type, value) if field.enum_type is not None else value


def _short_name(enum: Any, number: int) -> str | int:
    """`LEVEL_ERROR` of Level as `error`; the number itself when this program is older than the answer."""
    known = enum.values_by_number.get(number)
    prefix = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in enum.name).strip("_")
    return known.name.removeprefix(f"{prefix}_").lower() if known else number
