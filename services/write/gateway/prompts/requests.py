"""What the bytes of a request say, if anything."""

from collections.abc import Sized
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from services.write.gateway.wire import reason_of
from shared.runtime.refusal import InvalidError
from shared.runtime.wire import TooManyMessagesError, check_messages

_MAX_MESSAGES = 20_000
"""Items and their parts: an empty one has two bytes on the wire and a hundred in memory."""
Request = TypeVar("Request", bound=Message)


def read(kind: type[Request], request: bytes) -> Request:
    """The message in a request's bytes.

    Raises InvalidError.
    """
    try:
        check_messages(request, kind, most=_MAX_MESSAGES)
        return kind.FromString(request)
    except TooManyMessagesError as error:
        raise InvalidError("request", f"holds {error}") from None
    except DecodeError as error:
        raise InvalidError("request", f"is no {kind.DESCRIPTOR.name}: {reason_of(error)}") from None


def check_count(asked: Sized, path: str, *, most: int) -> None:
    """Raises InvalidError when more is asked for in one call than may be."""
    if len(asked) > most:
        raise InvalidError(path, f"are {len(asked)}; at most {most} are taken")
