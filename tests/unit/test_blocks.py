"""Single spans of a block are found without reading the others, whatever shape the request has."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from shared.spans.blocks import ReceivedSpan, UnreadableBlockError, locate, sources_of
from tests.support.records import any_value

texts = st.text(max_size=200)
spans = st.lists(st.builds(Span, span_id=st.binary(min_size=8, max_size=8), name=texts), max_size=5)
scopes = st.lists(
    st.builds(ScopeSpans, scope=st.builds(InstrumentationScope, name=texts), spans=spans, schema_url=texts), max_size=3
)
requests = st.builds(
    ExportTraceServiceRequest,
    resource_spans=st.lists(
        st.builds(
            ResourceSpans,
            resource=st.builds(Resource, dropped_attributes_count=st.integers(0, 2**32 - 1)),
            scope_spans=scopes,
        ),
        max_size=3,
    ),
)


def located(request: bytes, *indexes: int) -> list[ReceivedSpan]:
    return [
        found.read(request)
        for found in locate(request, frozenset(indexes), sdk_name="sdk", sdk_version="1")
        if found is not None
    ]


@given(requests, st.sets(st.integers(0, 20)))
def test_what_is_found_is_what_reading_all_gives(request: ExportTraceServiceRequest, indexes: set[int]) -> None:
    everything = list(sources_of(request, sdk_name="sdk", sdk_version="1"))
    assert located(request.SerializeToString(), *indexes) == [each for each in everything if each.index in indexes]


def test_a_resource_in_several_pieces_and_fields_of_the_future_are_no_obstacle() -> None:
    resource = Resource()
    resource.attributes.add(key="service.name", value=any_value("shop"))
    head = ResourceSpans(scope_spans=[ScopeSpans(spans=[Span(name="a")])]).SerializeToString()
    tail = ResourceSpans(resource=resource).SerializeToString()
    # Fields 100 of each kind: a number, 8 bytes, 4 bytes, a text, a group with a number in it.
    future = b"".join(
        (b"\xa0\x06\x7f", b"\xa1\x06" + bytes(8), b"\xa5\x06" + bytes(4), b"\xa2\x06\x01x", b"\xa3\x06\x08\x01\xa4\x06")
    )
    body = future + head + future + tail
    request = b"\x0a" + bytes([len(body)]) + body
    (found,) = located(request, 0)
    assert (found.span.name, found.origin.resource_attributes["service.name"].string_value) == ("a", "shop")


@given(requests, st.data())
def test_damaged_bytes_are_refused_and_nothing_else_is_raised(
    request: ExportTraceServiceRequest, data: st.DataObject
) -> None:
    raw = bytearray(request.SerializeToString())
    if raw:
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
        with suppress(UnreadableBlockError):
            located(bytes(raw[: data.draw(st.integers(0, len(raw)))]), *range(50))


def test_a_request_that_is_cut_off_is_refused() -> None:
    whole = ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[Span(name="name")])])]
    ).SerializeToString()
    with pytest.raises(UnreadableBlockError, match="cut off"):
        located(whole[:-1], 0)
