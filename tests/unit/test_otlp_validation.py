"""What of a request is kept: its bytes as they came, or all but the spans that have no identity or can't be read."""

import asyncio
import random

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from lodestream_proto.v1.event_pb2 import Event, Producer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from services.write.gateway.otlp_request import (
    SpanLocation,
    WireError,
    find_faults,
    read_request,
    select_spans,
    span_locations,
    spans_of,
    split,
)
from services.write.gateway.records import Envelope
from services.write.gateway.spans import CheckedSpans, check_spans
from shared.event_log.append import MAX_VALUE_BYTES
from shared.event_log.topics import TRACES
from shared.runtime.fairness import Turns
from shared.runtime.refusal import InvalidError
from shared.spans.blocks import compress, open_block
from tests.support.records import span

NOW = Timestamp(seconds=1_800_000_000)
EVENT_ID = "01890000-0000-7000-8000-000000000000"


def request(*shape: tuple[int, ...]) -> ExportTraceServiceRequest:
    """Of resources of scopes of so many spans: for example (2, 1), (3,)."""
    numbers = iter(range(1, 1000))
    return ExportTraceServiceRequest(
        resource_spans=[
            ResourceSpans(
                resource=Resource(attributes=[KeyValue(key="r", value=AnyValue(int_value=r))]),
                scope_spans=[
                    ScopeSpans(
                        scope=InstrumentationScope(name=f"{r}.{s}"),
                        schema_url="u",
                        spans=[span(1, next(numbers)) for _ in range(count)],
                    )
                    for s, count in enumerate(scopes)
                ],
            )
            for r, scopes in enumerate(shape)
        ]
    )


def checked(raw: bytes, *, max_spans: int = 1000, block: bytes | None = None) -> CheckedSpans:
    envelope = Envelope("acme", Producer(name="x"), EVENT_ID, NOW, NOW)

    async def checking() -> CheckedSpans:
        async with Turns().of("acme") as turn:
            return await check_spans(
                raw, lambda _: envelope, field="request", max_spans=max_spans, turn=turn, block=block
            )

    return asyncio.run(checking())


def events_of(its: CheckedSpans) -> list[Event]:
    return [Event.FromString(record.value) for record in its.records]


def kept(its: CheckedSpans) -> list[Span]:
    return [
        found
        for event in events_of(its)
        for found in spans_of(open_block(event.spans_recorded.compression, event.spans_recorded.otlp_request))
    ]


def test_the_bytes_of_a_good_request_are_not_touched() -> None:
    raw = request((2, 1), (3,)).SerializeToString() + b"\xf8\x07\x01"  # with a field from the future
    its = checked(raw)
    (event,) = events_of(its)
    assert event.spans_recorded.otlp_request == compress(raw)
    assert (event.spans_recorded.span_count, its.kept, list(its.refused)) == (6, 6, [])
    assert (its.records[0].topic, its.records[0].key) == (TRACES, b"acme/" + span(1, 1).trace_id)
    assert (event.project_id, event.event_id, event.received_at) == ("acme", EVENT_ID, NOW)


def test_what_came_compressed_is_not_compressed_again() -> None:
    raw = request((2,)).SerializeToString()
    its = checked(raw, block=b"the client's own frame")
    assert events_of(its)[0].spans_recorded.otlp_request == b"the client's own frame"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("trace_id", b"", "has 0 bytes instead of 16"),
        ("trace_id", bytes(16), "is all zeros"),
        ("trace_id", bytes(17), "has 17 bytes instead of 16"),
        ("span_id", b"1234567", "has 7 bytes instead of 8"),
        ("span_id", bytes(8), "is all zeros"),
        ("parent_span_id", b"1", "has 1 bytes instead of 8"),
        ("start_time_unix_nano", 0, "is missing"),
        ("name", "n" * 70_000, "has 70000 characters; at most 65536 are taken"),
    ],
)
def test_a_span_without_identity_is_refused_alone(field: str, value: bytes | int | str, reason: str) -> None:
    whole = request((1,), (1, 3))
    bad = whole.resource_spans[1].scope_spans[1].spans[1]
    setattr(bad, field, value)
    its = checked(whole.SerializeToString())
    (refused,) = its.refused
    assert (refused.path, refused.reason) == (f"resource_spans[1].scope_spans[1].spans[1].{field}", reason)
    assert [found.span_id[-1] for found in kept(its)] == [1, 2, 3, 5]
    assert its.kept == events_of(its)[0].spans_recorded.span_count == 4


@pytest.mark.parametrize("start", [1, 2**64 - 1])
def test_absurd_clocks_and_odd_texts_are_the_projections_to_clean(start: int) -> None:
    odd = span(1, 1, name="\0" * 600, end_ms=None)
    odd.start_time_unix_nano, odd.end_time_unix_nano = start, 1
    whole = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[odd])])])
    assert checked(whole.SerializeToString()).kept == 1


def test_an_empty_request_is_no_record() -> None:
    for raw in (b"", request((), (0,)).SerializeToString()):
        assert checked(raw) == CheckedSpans((), [], 0)


def test_when_all_are_refused_there_is_no_record() -> None:
    whole = request((2,))
    for bad in spans_of(whole):
        bad.trace_id = b""
    its = checked(whole.SerializeToString())
    assert (list(its.records), its.kept, len(its.refused)) == ([], 0, 2)


def test_too_many_spans_are_refused_as_a_whole() -> None:
    with pytest.raises(InvalidError, match="6 spans in one request; at most 5"):
        checked(request((3, 3)).SerializeToString(), max_spans=5)


@given(st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=3), st.data())
def test_a_part_has_its_spans_with_their_resources_and_scopes(shape: list[list[int]], data: st.DataObject) -> None:
    whole = request(*(tuple(scopes) for scopes in shape))
    chosen = [place for place in span_locations(whole) if data.draw(st.booleans())]
    part = select_spans(whole, chosen)

    def told(request: ExportTraceServiceRequest, places: list[SpanLocation]) -> list[tuple[Resource, str, Span]]:
        return [
            (
                outer.resource,
                outer.scope_spans[place.scope].scope.name,
                outer.scope_spans[place.scope].spans[place.span],
            )
            for place in places
            for outer in [request.resource_spans[place.resource]]
        ]

    assert told(part, span_locations(part)) == told(whole, chosen)
    assert not find_faults(part)


def test_the_spans_of_a_scope_stay_together_in_a_part() -> None:
    part = select_spans(
        request((2, 2), (1, 3)),
        [
            SpanLocation(0, 0, 0),
            SpanLocation(0, 0, 1),
            SpanLocation(0, 1, 1),
            SpanLocation(1, 1, 0),
            SpanLocation(1, 1, 2),
        ],
    )
    assert [[len(scope.spans) for scope in each.scope_spans] for each in part.resource_spans] == [[2, 1], [2]]
    assert [[scope.scope.name for scope in each.scope_spans] for each in part.resource_spans] == [
        ["0.0", "0.1"],
        ["1.1"],
    ]
    assert all(scope.schema_url == "u" for each in part.resource_spans for scope in each.scope_spans)


def test_a_request_too_large_for_a_record_is_split_and_its_ids_are_the_same_on_a_retry() -> None:
    noise = random.Random(1)
    whole = request((3,), (2, 4))
    for large in spans_of(whole):
        large.attributes.append(KeyValue(key="v", value=AnyValue(bytes_value=noise.randbytes(600_000))))
    raw = whole.SerializeToString()
    its, again = checked(raw), checked(raw)
    assert len(its.records) > 2
    assert all(len(record.value) <= MAX_VALUE_BYTES for record in its.records)
    assert [found.span_id for found in kept(its)] == [found.span_id for found in spans_of(whole)]
    assert sum(event.spans_recorded.span_count for event in events_of(its)) == its.kept == 9
    ids = [event.event_id for event in events_of(its)]
    assert ids == [event.event_id for event in events_of(again)]
    assert (ids[0], len(set(ids))) == (EVENT_ID, len(ids))


def test_a_span_too_large_alone_is_refused_with_its_place() -> None:
    whole = request((2,), (2,))
    large = whole.resource_spans[1].scope_spans[0].spans[0]
    large.attributes.append(KeyValue(key="v", value=AnyValue(bytes_value=random.Random(2).randbytes(2_500_000))))
    whole.resource_spans[0].scope_spans[0].spans[0].span_id = b""
    its = checked(whole.SerializeToString())
    paths = [refused.path for refused in its.refused]
    assert paths == ["resource_spans[0].scope_spans[0].spans[0].span_id", "resource_spans[1].scope_spans[0].spans[0]"]
    assert [found.span_id[-1] for found in kept(its)] == [2, 4]


def test_a_resource_that_can_not_be_read_costs_its_own_spans() -> None:
    whole = request((1,), (2,), (1,))
    whole.resource_spans[1].resource.attributes[0].key = "spoiled!"
    its = checked(whole.SerializeToString().replace(b"spoiled!", b"\xff" * 8))
    assert [refused.path for refused in its.refused] == [f"resource_spans[1].scope_spans[0].spans[{n}]" for n in (0, 1)]
    assert {refused.reason for refused in its.refused} == {"can't be read: its resource: String field had bad UTF-8"}
    assert [found.span_id[-1] for found in kept(its)] == [1, 4]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_refused(raw: bytes) -> None:
    try:
        read_request(raw, max_spans=100)
    except WireError as error:
        assert str(error)  # noqa: PT017 - other bytes are a request


@given(st.data())
def test_damage_anywhere_is_survived(data: st.DataObject) -> None:
    raw = bytearray(request((2, 1), (1,)).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        its = checked(bytes(raw))
    except InvalidError as error:
        assert error.reason.startswith("request")  # noqa: PT017
        return
    assert len(kept(its)) == its.kept
    assert all(len(found.trace_id) == 16 and len(found.span_id) == 8 for found in kept(its))


def test_the_pieces_of_a_message_are_all_of_it() -> None:
    raw = request((2, 1), (1,)).resource_spans[0].SerializeToString()
    scopes, rest = split(raw, 2, "r")
    assert len(scopes) == 2
    assert ResourceSpans.FromString(rest).resource == request((1,)).resource_spans[0].resource
    with pytest.raises(WireError, match=r"^r: 1 bytes are missing at the end$"):
        split(raw[:-1], 2, "r")


def test_salvage_stops_at_too_many_pieces() -> None:
    with pytest.raises(WireError, match="more than 10 spans"):
        read_request(b"\x0a\x00" * 100 + b"\x0a\x05\x0a\x03\x0a\x01\xff", max_spans=10)
