"""JSON texts in what is sent: how much they become when they are read, known before anything is built of them."""

from collections.abc import Iterator

from google.protobuf.message import Message

from shared.rules.json_texts import count_json_values

MAX_JSON_VALUES = 100_000
"""Names and values in all JSON texts of one payload: up to 10 MB and a tenth of a second while they are read."""
JSON_VALUES_PER_SPAN = 20
"""So many take the time that a span takes, and are charged as one."""
_QUICKLY_COUNTED = 1_000


def json_values(payload: Message, path: str) -> Iterator[tuple[str, int]]:
    """Each JSON text in a payload, the fields whose names end in `_json`: its path, and its names and values."""
    for descriptor, value in payload.ListFields():
        field = f"{path}.{descriptor.name}"
        if isinstance(value, Message):
            yield from json_values(value, field)
        elif descriptor.message_type is not None:
            for n, each in enumerate(value):
                yield from json_values(each, f"{field}[{n}]")
        elif descriptor.name.endswith("_json"):
            yield field, count_json_values(value, enough=_QUICKLY_COUNTED)
