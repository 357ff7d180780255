"""Messages from the bytes of calls, bounded before they are built."""

from collections.abc import AsyncIterator
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from shared.runtime.refusal import InvalidError
from shared.runtime.wire import TooManyMessagesError, check_messages

_MAX_MESSAGES = 20_000
"""Items and their parts: an empty one has two bytes on the wire and a hundred in memory."""
Request = TypeVar("Request", bound=Message)


async def read_unary(requests: AsyncIterator[bytes]) -> bytes:
    """Return the bytes of a unary call that is registered as a stream, so that it is admitted before they are read.

    Raises InvalidError when there are none.
    """
    async for request in requests:
        return request
    raise InvalidError("request", "the call has no message, or one that is too large")


def parse_request(kind: type[Request], request: bytes) -> Request:
    """Return the message in a request's bytes.

    Raises InvalidError when they are not such a message, or hold more than 20,000 messages.
    """
    try:
        check_messages(request, kind, most=_MAX_MESSAGES)
        return kind.FromString(request)
    except TooManyMessagesError as error:
        raise InvalidError("request", f"holds {error}") from None
    except DecodeError as error:
        raise InvalidError("request", f"is no {kind.DESCRIPTOR.name}: {decode_reason(error)}") from None


def decode_reason(error: DecodeError) -> str:
    """Return what protobuf objects to, without the name of the message."""
    return str(error).rpartition(": ")[2] or "can't be read"
