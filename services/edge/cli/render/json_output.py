"""Answers as JSON documents: the contract's field names, numbers as numbers, times as RFC 3339, nothing left out."""

import itertools
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from operator import attrgetter
from typing import Any

import orjson
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

_NOT_PRINTABLE_ASCII = re.compile(r"[^\n -~]")


def document(message: Message) -> dict[str, Any]:
    """A message as a dictionary: absent fields are None, enums their short lower-case names, bytes hex."""
    return {name: read(message) for name, read in _readers(message.DESCRIPTOR)}


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """JSON in printable ASCII, which no string in it can make act on a terminal."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS | (orjson.OPT_INDENT_2 if indent else 0)).decode()
    except TypeError:  # halves of characters, and numbers of more than 64 bits
        text = json.dumps(value, indent=indent, ensure_ascii=True)
    return _NOT_PRINTABLE_ASCII.sub(_escaped, text)


def streamed(answers: Iterable[Message], rows: str) -> Iterator[str]:
    """Yield the text of one document: the first answer, with the `rows` of all answers.

    Of the fields behind it the document has what the first answer says that has them; of `next_page_token` the last.
    """
    pages = iter(answers)
    first = last = next(pages)
    names = [field.name for field in first.DESCRIPTOR.fields]
    at = names.index(rows)
    yield "{\n" + "".join(
        f"  {json_text(name)}: {_indented(value, 2)},\n" for name, value in _fields(first, names[:at])
    )
    yield f'  "{rows}": ['
    sources: dict[str, Message] = {}
    gap = "\n"
    for last in itertools.chain([first], pages):
        for field, _ in last.ListFields():
            sources.setdefault(field.name, last)
        for row in getattr(last, rows):
            yield f"{gap}    {_indented(document(row), 4)}"
            gap = ",\n"
    yield "]" if gap == "\n" else "\n  ]"
    for name in names[at + 1 :]:
        source = last if name == "next_page_token" else sources.get(name, first)
        yield from (f",\n  {json_text(name)}: {_indented(value, 2)}" for name, value in _fields(source, [name]))
    yield "\n}\n"


def _fields(message: Message, names: Collection[str]) -> Iterator[tuple[str, Any]]:
    return ((name, read(message)) for name, read in _readers(message.DESCRIPTOR) if name in names)


def _indented(value: Any, cells: int) -> str:
    return json_text(value).replace("\n", "\n" + " " * cells)


def _escaped(match: re.Match[str]) -> str:
    return json.dumps(match.group())[1:-1] if match.group() != "\x7f" else "\\u007f"


@cache
def _readers(descriptor: Any) -> list[tuple[str, Callable[[Message], Any]]]:
    """The fields of a message type, each with its reader; cached, for there may be 100,000 messages."""
    return [(field.name, _reader(field)) for field in descriptor.fields]


def _reader(field: Any) -> Callable[[Message], Any]:
    get, name = attrgetter(field.name), field.name
    if field.is_repeated:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            of = _of_one(field.message_type.fields_by_name["value"])
            return lambda message: {str(key): of(value) for key, value in sorted(get(message).items())}
        of = _of_one(field)
        return lambda message: [of(each) for each in get(message)]
    of = _of_one(field)
    if field.has_presence:
        return lambda message: of(get(message)) if message.HasField(name) else None
    return lambda message: of(get(message))


def _of_one(field: Any) -> Callable[[Any], Any]:
    if field.enum_type is not None:
        return lambda value: _short_name(field.enum_type, value)
    if field.message_type is not None:
        return Timestamp.ToJsonString if field.message_type is Timestamp.DESCRIPTOR else document
    return lambda value: value.hex() if isinstance(value, bytes) else value


@cache
def _short_name(enum: Any, number: int) -> str | int:
    """`LEVEL_ERROR` of Level as `error`; the number itself when this program is older than the answer."""
    value = enum.values_by_number.get(number)
    prefix = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in enum.name).strip("_")
    return value.name.removeprefix(f"{prefix}_").lower() if value else number
