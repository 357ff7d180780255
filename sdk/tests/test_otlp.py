"""The bytes that are written by hand are what opentelemetry-proto would have written."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lodestream._wire.otlp import request_of, resource_of, scope_of, scope_spans_of, span_of
from lodestream._wire.protobuf import varint
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

TEXT = st.text(st.characters(codec=None), max_size=20)  # lone surrogates too
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)
ATTRIBUTES = st.dictionaries(TEXT, VALUES, max_size=6)
TIMES = st.integers(0, (1 << 64) - 1)
FLAGS = st.integers(0, (1 << 32) - 1)
COUNTS = st.integers(0, 1 << 31)
TRACE_IDS, SPAN_IDS = st.integers(0, (1 << 128) - 1), st.integers(0, (1 << 64) - 1)
SCOPES = st.tuples(TEXT, TEXT, ATTRIBUTES)


def utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def any_value(value: Any) -> AnyValue:
    made = AnyValue()
    match value:
        case bool():
            made.bool_value = value
        case int() if -(1 << 63) <= value < 1 << 63:
            made.int_value = value
        case int():
            made.string_value = str(value)
        case float():
            made.double_value = value
        case str():
            made.string_value = utf8(value)
        case bytes():
            made.bytes_value = value
        case list() | tuple():
            made.array_value.SetInParent()
            made.array_value.values.extend(map(any_value, value))
        case dict():
            made.kvlist_value.SetInParent()
            made.kvlist_value.values.extend(key_values(value))
    return made


def key_values(attributes: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=utf8(key), value=any_value(value)) for key, value in attributes.items()]


def canonical(message: Any) -> bytes:
    """For comparing: messages with NaN differ from themselves."""
    return bytes(message.SerializeToString(deterministic=True))


@given(
    ids=st.tuples(TRACE_IDS, SPAN_IDS, SPAN_IDS),
    state=TEXT,
    flags=FLAGS,
    name=TEXT,
    kind=st.integers(0, 5),
    times=st.tuples(TIMES, TIMES),
    attributes=ATTRIBUTES,
    events=st.lists(st.tuples(TEXT, TIMES, ATTRIBUTES, COUNTS), max_size=3),
    links=st.lists(st.tuples(TRACE_IDS, SPAN_IDS, TEXT, FLAGS, ATTRIBUTES, COUNTS), max_size=3),
    status=st.tuples(st.integers(0, 2), TEXT),
    dropped=st.tuples(*[COUNTS] * 3),
)
def test_a_span_is_what_the_library_would_write(  # noqa: PLR0917 - as many as a span has parts
    ids, state, flags, name, kind, times, attributes, events, links, status, dropped
) -> None:
    trace_id, span_id, parent_id = ids
    expected = Span(
        trace_id=trace_id.to_bytes(16, "big"),
        span_id=span_id.to_bytes(8, "big"),
        parent_span_id=parent_id.to_bytes(8, "big") if parent_id else b"",
        trace_state=utf8(state),
        flags=flags,
        name=utf8(name),
        kind=kind,
        start_time_unix_nano=times[0],
        end_time_unix_nano=times[1],
        attributes=key_values(attributes),
        events=[
            Span.Event(name=utf8(event), time_unix_nano=at, attributes=key_values(told), dropped_attributes_count=over)
            for event, at, told, over in events
        ],
        links=[
            Span.Link(
                trace_id=trace.to_bytes(16, "big"),
                span_id=span.to_bytes(8, "big"),
                trace_state=utf8(its_state),
                flags=its_flags,
                attributes=key_values(told),
                dropped_attributes_count=over,
            )
            for trace, span, its_state, its_flags, told, over in links
        ],
        dropped_attributes_count=dropped[0],
        dropped_events_count=dropped[1],
        dropped_links_count=dropped[2],
    )
    code, message = status
    if code:
        expected.status.code = code
        expected.status.message = utf8(message)
    start, end = times
    written = span_of(
        trace_id, span_id, parent_id, state, flags, name, kind, start, end, attributes, events, links, status, dropped
    )
    assert canonical(Span.FromString(written)) == canonical(expected)


def resource_spans(attributes, scope, spans, schema_url) -> ResourceSpans:
    name, version, told = scope
    made = ResourceSpans()
    made.resource.attributes.extend(key_values(attributes))
    its_scope = InstrumentationScope(name=utf8(name), version=utf8(version), attributes=key_values(told))
    its_spans = [Span.FromString(span) for span in spans]
    made.scope_spans.append(ScopeSpans(scope=its_scope, spans=its_spans, schema_url=utf8(schema_url)))
    return made


SPANS = st.lists(
    st.builds(lambda number: span_of(1, number, 0, "", 0, "n", 1, 1, 2, {}, (), (), (0, ""), (0, 0, 0)), SPAN_IDS),
    max_size=3,
)
FRAMES = st.tuples(st.sampled_from([{}, {"service.name": "a"}, {"service.name": "b" * 200}]), SCOPES, SPANS, TEXT)


@given(st.lists(FRAMES, max_size=6))
def test_requests_say_each_resource_once(frames) -> None:
    """In the order in which they come, with all that is told of each."""
    written = [resource_of(told) + scope_spans_of(scope_of(*scope), *rest) for told, scope, *rest in frames]
    expected: dict[bytes, ResourceSpans] = {}
    for frame in frames:
        one = resource_spans(*frame)
        key = canonical(one.resource)
        if key in expected:
            expected[key].scope_spans.extend(one.scope_spans)
        else:
            expected[key] = one
    request = ExportTraceServiceRequest.FromString(request_of(written))
    assert canonical(request) == canonical(ExportTraceServiceRequest(resource_spans=expected.values()))


@given(st.integers(0, (1 << 64) - 1))
def test_varints(number: int) -> None:
    read = sum((byte & 0x7F) << 7 * at for at, byte in enumerate(varint(number)))
    assert read == number
    assert [byte >= 0x80 for byte in varint(number)] == [True] * (len(varint(number)) - 1) + [False]


def written_with(**told: Any) -> Span:
    start, end = told.pop("times", (1, 2))
    return Span.FromString(span_of(1, 2, 0, "", 0, "n", 1, start, end, told, (), (), (0, ""), (0, 0, 0)))


@pytest.mark.parametrize(
    ("times", "expected"),
    [((-5, -1), (0, 0)), ((1 << 64, 1 << 70), ((1 << 64) - 1,) * 2), ((1.5, 2.5), (1, 2))],
)
def test_times_that_have_no_place_become_the_nearest_that_have(times: Any, expected: tuple[int, int]) -> None:
    span = written_with(times=times)
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == expected


def test_integers_too_long_to_be_written_out_are_described() -> None:
    assert written_with(x=-(10**5000)).attributes[0].value.string_value == "<an integer of 16610 bits>"


def test_what_nests_too_deep_is_told_as_text() -> None:
    value: Any = "core"
    for _ in range(100):
        value = (value,)
    assert "core" in str(written_with(x=value))
