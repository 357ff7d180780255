"""How much memory a protobuf message takes when it is parsed, judged on the wire.

Two bytes on the wire make a message of a hundred bytes in memory: an empty one in a repeated field. A bound of bytes is
therefore no bound of memory; a bound of bytes and of messages is.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from google.protobuf.message import Message

_STEP = 1_000
_LENGTH_DELIMITED = 2
_DEEPEST = 100  # messages within one another; parsers take no more


class TooManyMessagesError(ValueError):
    """A message holds more messages than are taken."""

    def __init__(self, most: int) -> None:
        super().__init__(f"more than {most} messages within one another")


def check_messages(raw: bytes, kind: type[Message], *, most: int) -> None:
    """Raise TooManyMessagesError when parsing `raw` would make more than `most` messages of it."""
    for _ in checking_messages(raw, kind, most=most):
        pass


def checking_messages(raw: bytes, kind: type[Message], *, most: int) -> Iterator[None]:
    """As `check_messages`, in steps of less than a millisecond, between which something else may run.

    Bytes that are no message of this kind end it early: the parser refuses them, and says why.
    """
    if len(raw) <= 2 * most:  # each takes two bytes at least
        return
    count, fields, at, end, children = 0, 0, 0, len(raw), _children(kind.DESCRIPTOR)
    around: list[tuple[int, int, Mapping[int, Any]]] = []
    while True:
        try:
            while at < end:
                fields += 1
                if not fields % _STEP:
                    yield
                tag, at = read_varint(raw, at)
                match tag & 7:
                    case 0:
                        _, at = read_varint(raw, at)
                    case 1:
                        at += 8
                    case 2:
                        size, at = read_varint(raw, at)
                        child = children.get(tag)
                        if child is None:
                            at += size
                            continue
                        count += 1
                        if count > most:
                            raise TooManyMessagesError(most)
                        if size:
                            around.append((at + size, end, children))
                            if at + size > end or len(around) > _DEEPEST:
                                return
                            end, children = at + size, _children(child)
                    case 5:
                        at += 4
                    case 6 | 7:
                        return
        except IndexError:
            return
        if not around:
            return
        at, end, children = around.pop()


@cache
def _children(message: Any) -> Mapping[int, Any]:
    """The descriptors of the messages that one may hold, by the tags they have on the wire."""
    return {
        field.number << 3 | _LENGTH_DELIMITED: field.message_type
        for field in message.fields
        if field.message_type is not None
    }


def read_varint(raw: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a place, and where it ends. Raises IndexError: there is none."""
    number = raw[at]
    at += 1
    if number < 0x80:
        return number, at
    number &= 0x7F
    for shift in range(7, 70, 7):
        byte = raw[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise IndexError
