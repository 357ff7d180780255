"""RetryInfo is read as googleapis writes it, and garbage is none."""

import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st
from lodestream._delivery.channel import retry_seconds

KEY = "grpc-status-details-bin"


def status(*details) -> bytes:
    made = status_pb2.Status(code=14, message="busy")
    for detail in details:
        made.details.add().Pack(detail)
    return bytes(made.SerializeToString())


def retry_info(seconds: int, nanos: int = 0) -> error_details_pb2.RetryInfo:
    return error_details_pb2.RetryInfo(retry_delay=Duration(seconds=seconds, nanos=nanos))


@pytest.mark.parametrize(
    ("details", "seconds"),
    [
        ([retry_info(2, 500_000_000)], 2.5),
        ([retry_info(0)], 0.0),
        ([retry_info(-3)], 0.0),
        ([retry_info(315_576_000_000)], 315_576_000_000.0),
        ([error_details_pb2.DebugInfo(detail="x"), retry_info(1)], 1.0),
        ([error_details_pb2.DebugInfo(detail="x")], None),
        ([], None),
    ],
)
def test_the_delay(details, seconds) -> None:
    assert retry_seconds((("other", "x"), (KEY, status(*details)))) == seconds


def test_without_metadata_there_is_none() -> None:
    assert retry_seconds(()) is None
    assert retry_seconds(((KEY, "text"),)) is None


@given(st.binary(max_size=200))
def test_garbage_is_none(noise: bytes) -> None:
    seconds = retry_seconds(((KEY, noise),))
    assert seconds is None or seconds >= 0


@given(st.data())
def test_damage_is_harmless(data: st.DataObject) -> None:
    whole = bytearray(status(error_details_pb2.DebugInfo(detail="x" * 200), retry_info(1)))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    seconds = retry_seconds(((KEY, bytes(whole[: data.draw(st.integers(0, len(whole)))])),))
    assert seconds is None or seconds >= 0
