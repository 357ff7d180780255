"""google.rpc.RetryInfo, as servers attach it to a refusal: when the same request may be sent again."""

from collections.abc import Sequence

from lodestream._wire.protobuf import fields, signed, submessages

_DETAILS = "grpc-status-details-bin"
_TYPE = b"type.googleapis.com/google.rpc.RetryInfo"


def retry_seconds(trailing: Sequence[tuple[str, str | bytes]]) -> float | None:
    """The delay that a refusal's trailing metadata names; None without one."""
    try:
        for key, value in trailing:
            if key == _DETAILS and isinstance(value, bytes):
                for detail in submessages(value, 3):  # google.rpc.Status.details
                    if _TYPE in submessages(detail, 1):  # google.protobuf.Any
                        return next(
                            (_seconds(delay) for info in submessages(detail, 2) for delay in submessages(info, 1)), None
                        )
    except ValueError:
        pass
    return None


def _seconds(duration: bytes) -> float:
    told = {field.number: signed(field.value) for field in fields(duration) if isinstance(field.value, int)}
    return max(told.get(1, 0) + told.get(2, 0) / 1e9, 0.0)
