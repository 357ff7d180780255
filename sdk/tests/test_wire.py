"""Reading protobuf's wire format: as protobuf's own library does, and bounded by ValueError."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lodestream._wire.otlp import request_of
from lodestream._wire.payloads import count_spans, halves
from lodestream._wire.protobuf import fields, signed, submessages
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from sdk.tests.collector import spans_of
from sdk.tests.telling import payload


@given(st.binary(max_size=40), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.text(max_size=20))
def test_fields_are_read_as_protobuf_wrote_them(span_id: bytes, start: int, flags: int, name: str) -> None:
    span = Span(span_id=span_id, start_time_unix_nano=start, flags=flags, name=name, dropped_events_count=flags)
    message = span.SerializeToString()
    found = list(fields(message))
    assert b"".join(field.raw for field in found) == message
    values = {field.number: field.value for field in found}
    assert values.get(2, b"") == span_id
    assert values.get(5, b"") == name.encode()
    assert values.get(7, bytes(8)) == start.to_bytes(8, "little")
    assert values.get(12, 0) == flags


@given(st.binary(max_size=60))
def test_what_is_no_message_is_a_value_error(message: bytes) -> None:
    try:
        assert b"".join(field.raw for field in fields(message)) == message
    except ValueError:
        assert message


@pytest.mark.parametrize(
    "message", [b"\x0a", b"\x0a\x05abcd", b"\x0b", b"\x02\x00", b"\x09abc", b"\x08" + b"\x80" * 10 + b"\x01", b"\x80"]
)
def test_what_protobuf_refuses_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"field|number"):
        list(fields(message))


def test_numbers_may_be_negative() -> None:
    assert signed((1 << 64) - 5) == -5
    assert signed(5) == 5


@given(st.lists(st.text(max_size=8), min_size=1, max_size=20))
def test_a_frame_falls_into_halves_of_the_same_spans(names: list[str]) -> None:
    whole, count = payload(*names)
    assert count_spans(whole) == count == len(names)
    parts = halves([whole])
    assert sum(spans for _, spans in parts) == count
    spans = [
        span for half, _ in reversed(parts) for span in spans_of(ExportTraceServiceRequest.FromString(request_of(half)))
    ]
    assert spans == [span for scope in ResourceSpans.FromString(whole).scope_spans for span in scope.spans]
    for half, _ in parts:
        for one in half:
            assert ResourceSpans.FromString(one).resource == ResourceSpans.FromString(whole).resource


def test_other_bytes_hold_no_messages() -> None:
    assert list(submessages(b"\x10\x05", 2)) == []
