"""google.rpc.RetryInfo, as servers attach it to a refusal: when the same request may be sent again."""

from collections.abc import Iterator, Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError

_DETAILS = "grpc-status-details-bin"
_TYPE = b"type.googleapis.com/google.rpc.RetryInfo"


def retry_seconds(trailing: Sequence[tuple[str, str | bytes]]) -> float | None:
    """The delay that a refusal's trailing metadata names; None without one."""
    for key, value in trailing:
        if key == _DETAILS and isinstance(value, bytes):
            for detail in _fields(value, 3):  # google.rpc.Status.details
                if _TYPE in _fields(detail, 1):  # google.protobuf.Any
                    for info in _fields(detail, 2):
                        return next((_seconds(delay) for delay in _fields(info, 1)), None)
    return None


def _seconds(delay: bytes) -> float | None:
    try:
        return max(Duration.FromString(delay).ToMilliseconds() / 1000, 0.0)
    except DecodeError:
        return None


def _fields(message: bytes, number: int) -> Iterator[bytes]:
    """The texts, bytes or messages in a field; stops where the bytes make no sense."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 2:
            size, at = _varint(message, at)
            if tag >> 3 == number:
                yield message[at : at + size]
            at += size
        elif kind == 0:
            _, at = _varint(message, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            return


def _varint(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(message):
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    return number, at
