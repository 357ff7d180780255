"""What the bytes of a request say, if anything."""

from collections.abc import Sized
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from services.write.gateway.wire import reason_of
from shared.runtime.refusal import InvalidError

Request = TypeVar("Request", bound=Message)


def read(kind: type[Request], request: bytes) -> Request:
    """The message in a request's bytes.

    Raises InvalidError.
    """
    try:
        return kind.FromString(request)
    except DecodeError as error:
        raise InvalidError("request", f"is no {kind.DESCRIPTOR.name}: {reason_of(error)}") from None


def check_count(asked: Sized, path: str, *, most: int) -> None:
    """Raises InvalidError when more is asked for in one call than may be."""
    if len(asked) > most:
        raise InvalidError(path, f"are {len(asked)}; at most {most} are taken")
