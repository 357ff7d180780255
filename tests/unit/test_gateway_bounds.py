"""What a request costs is known, charged and bounded before it is opened or parsed."""

import asyncio
import tracemalloc
from typing import Any, cast

import pytest
import zstandard
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st
from lodestream_proto.v1.event_pb2 import Event, Producer
from lodestream_proto.v1.experiment_event_pb2 import DatasetItemRecorded, ExperimentItemFinished, ItemEvaluation
from lodestream_proto.v1.prompt_event_pb2 import PromptVersionCreated
from lodestream_proto.v1.score_event_pb2 import ScoreRecorded
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_NONE, COMPRESSION_ZSTD, SpansRecorded
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from services.write.gateway.admission import (
    JSON_VALUES_PER_SPAN,
    MAX_JSON_VALUES,
    Admission,
    OverQuotaError,
    TooMuchError,
)
from services.write.gateway.events import read_events
from services.write.gateway.otlp_request import (
    Layout,
    TooManySpansError,
    cut_pieces,
    scan_spans,
    span_locations,
    spans_of,
)
from services.write.gateway.records import Envelope
from services.write.gateway.spans import PIECE_BYTES, PIECE_SPANS, CheckedSpans, check_spans, opened_total
from shared.event_log.topics import TRACES, Lane, is_bulk, lane_partition
from shared.runtime.fairness import Turns
from shared.runtime.refusal import InvalidError, UnavailableError
from shared.runtime.settings import MIB, GatewaySettings
from shared.runtime.wire import TooManyMessagesError, check_messages
from shared.spans.blocks import open_block
from tests.support.admission import QuietLog, admission, open_room
from tests.support.records import span

NOW = Timestamp(seconds=1_800_000_000)
ENVELOPE = Envelope("acme", Producer(name="x"), "01890000-0000-7000-8000-000000000000", NOW, NOW)


def request_of(*spans: Span) -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])])


def field(number: int, raw: bytes) -> bytes:
    """A length-delimited field."""
    size, head = len(raw), bytearray([number << 3 | 2])
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*head, size]) + raw


def bomb(spans: int) -> bytes:
    """A request of empty spans: two bytes each."""
    return field(1, field(2, b"\x12\x00" * spans))


def checked(raw: bytes, *, max_spans: int = 50_000, charged: list[int] | None = None) -> CheckedSpans:
    async def checking() -> CheckedSpans:
        async with Turns().of("acme") as turn:
            charge = (charged if charged is not None else []).append
            return await check_spans(
                raw, lambda _: ENVELOPE, field="request", max_spans=max_spans, turn=turn, charge=charge
            )

    return asyncio.run(checking())


def recorded(records: CheckedSpans) -> list[SpansRecorded]:
    return [Event.FromString(record.value).spans_recorded for record in records.records]


# Requests in pieces


@st.composite
def requests(draw: st.DrawFn) -> ExportTraceServiceRequest:
    number = iter(range(1, 1000))
    return ExportTraceServiceRequest(
        resource_spans=[
            ResourceSpans(
                resource=Resource(attributes=[KeyValue(key=f"r{r}" * draw(st.integers(0, 20)))]),
                schema_url=f"{r}",
                scope_spans=[
                    ScopeSpans(
                        scope=InstrumentationScope(name=f"{r}.{s}"),
                        spans=[span(1, next(number), name="n" * draw(st.integers(0, 80))) for _ in range(count)],
                    )
                    for s, count in enumerate(draw(st.lists(st.integers(0, 5), max_size=3)))
                ],
            )
            for r in range(draw(st.integers(0, 3)))
        ]
    )


Surrounded = list[tuple[Resource, str, InstrumentationScope, Span]]


def surrounded(request: ExportTraceServiceRequest) -> Surrounded:
    return [
        (outer.resource, outer.schema_url, inner.scope, each)
        for outer in request.resource_spans
        for inner in outer.scope_spans
        for each in inner.spans
    ]


@given(requests(), st.integers(1, 400), st.integers(1, 6))
def test_the_pieces_of_a_request_have_all_its_spans_as_they_were(
    whole: ExportTraceServiceRequest, max_bytes: int, max_spans: int
) -> None:
    raw, layout = whole.SerializeToString(), Layout()
    for _ in scan_spans(raw, layout, max_spans=100):
        pass
    pieces = list(cut_pieces(raw, layout, max_bytes=max_bytes, max_spans=max_spans))
    parsed = [ExportTraceServiceRequest.FromString(piece.otlp_request) for piece in pieces]
    assert [each for part in parsed for each in surrounded(part)] == surrounded(whole)
    assert [place for piece in pieces for place in piece.locations()] == span_locations(whole)
    for piece, part in zip(pieces, parsed, strict=True):
        assert [piece.in_whole(place) for place in span_locations(part)] == piece.locations()
        assert piece.spans <= max_spans
        around = max(sum(map(len, scope.around)) for scope, _, _ in piece.scopes)
        assert piece.spans == 1 or piece.size <= max(max_bytes, 4 * around)


def test_a_large_request_becomes_records_that_say_how_large_they_are_opened() -> None:
    spans = [span(1, n, attributes={"input.value": f"{n}" * 800}) for n in range(1, 3000)]
    spans[1700].span_id = b""
    charged: list[int] = []
    its = checked(request_of(*spans).SerializeToString(), charged=charged)
    assert charged == [2999]
    assert [refused.path for refused in its.refused] == ["resource_spans[0].scope_spans[0].spans[1700].span_id"]
    found = []
    for each in recorded(its):
        opened = open_block(each.compression, each.otlp_request)
        assert each.opened_bytes == opened.ByteSize() <= PIECE_BYTES + MIB // 8
        assert each.span_count <= PIECE_SPANS
        found += [one.span_id for one in spans_of(opened)]
    assert found == [one.span_id for one in spans if one.span_id]


def test_what_a_span_is_surrounded_by_is_not_repeated_without_end() -> None:
    spans = [span(1, n, attributes={"input.value": "x" * 300}) for n in range(1, 4000)]
    whole = request_of(*spans)
    whole.resource_spans[0].resource.attributes.add(key="large", value=AnyValue(string_value="r" * 400_000))
    its = checked(whole.SerializeToString())
    assert its.kept == 3999
    whole.resource_spans[0].resource.attributes.add(key="large", value=AnyValue(string_value="r" * 400_000))
    its = checked(whole.SerializeToString())
    assert {refused.reason.partition(" have ")[0] for refused in its.refused} == {"its resource and scope"}
    assert (its.kept, len(its.refused)) == (0, 3999)


def test_spans_are_counted_before_they_are_parsed() -> None:
    with pytest.raises(InvalidError, match="at most 50000 are taken"):
        checked(bomb(4_000_000))
    layout = Layout()
    with pytest.raises(TooManySpansError):
        list(scan_spans(bomb(4_000_000), layout, max_spans=50_000))
    assert layout.spans == 50_001, "no further than it had to be read"


def test_a_span_of_a_million_attributes_is_refused_alone() -> None:
    monster = span(1, 2).SerializeToString() + b"\x4a\x00" * 1_000_000
    inner = b"".join(field(2, raw) for raw in (span(1, 1).SerializeToString(), monster, span(1, 3).SerializeToString()))
    its = checked(field(1, field(2, inner)))
    (refused,) = its.refused
    assert refused.path == "resource_spans[0].scope_spans[0].spans[1]"
    assert "more than 262144 messages" in refused.reason
    assert its.kept == 2


# Messages on the wire


@settings(deadline=None)
@given(requests())
def test_messages_are_counted_as_the_parser_would_make_them(whole: ExportTraceServiceRequest) -> None:
    raw = whole.SerializeToString()
    count = _messages_in(whole)
    if 2 * count < len(raw):
        check_messages(raw, ExportTraceServiceRequest, most=count)
    if count and 2 * (count - 1) < len(raw):
        with pytest.raises(TooManyMessagesError):
            check_messages(raw, ExportTraceServiceRequest, most=count - 1)


def _messages_in(message: Any) -> int:
    count = 0
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            count += sum(1 + _messages_in(each) for each in (value if descriptor.is_repeated else [value]))
    return count


def test_to_count_messages_takes_no_memory() -> None:
    wide = field(1, field(2, field(2, b"\x4a\x02\x0a\x00" * 200_000)))
    tracemalloc.start()
    try:
        check_messages(wide, ExportTraceServiceRequest, most=400_003)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_messages_deeper_than_parsers_go_are_left_to_the_parser() -> None:
    raw = b"\x4a\x00"
    for _ in range(1_000):
        raw = field(5, field(1, raw))
    check_messages(raw, AnyValue, most=500)
    with pytest.raises(DecodeError):
        AnyValue.FromString(raw)


@given(st.binary(max_size=200))
def test_any_bytes_can_be_counted(raw: bytes) -> None:
    try:
        check_messages(raw, ExportTraceServiceRequest, most=3)
    except TooManyMessagesError as error:
        assert "more than 3" in str(error)  # noqa: PT017 - other bytes hold fewer


def test_a_million_empty_events_are_not_parsed() -> None:
    async def reading() -> None:
        async with Turns().of("acme") as turn:
            await read_events(b"\x0a\x00" * 1_000_000, 1000, turn)

    with pytest.raises(InvalidError, match="events: hold more than"):
        asyncio.run(reading())


# Requests of many events


def event_of(block: bytes, compression: int = COMPRESSION_ZSTD) -> Event:
    return Event(spans_recorded=SpansRecorded(otlp_request=block, compression=cast("Any", compression)))


def unsaid(raw: bytes) -> bytes:
    """Compressed, without a word of how large it is."""
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    block = compressor.compress(raw)
    assert zstandard.frame_content_size(block) == -1
    return block


def test_what_a_request_opens_to_is_known_before_it_is_opened() -> None:
    events = [
        event_of(zstandard.compress(bytes(1000))),
        event_of(unsaid(bytes(2000))),
        event_of(b"x" * 30, COMPRESSION_NONE),
        event_of(b"no zstd"),
        event_of(zstandard.compress(bytes(10 * MIB))),  # too large alone, and refused alone
    ]
    assert opened_total([*events, Event(), object()], max_bytes=MIB) == 3030


@pytest.mark.parametrize("pack", [zstandard.compress, unsaid])
def test_events_that_are_small_alone_and_too_much_together_are_refused(pack: Any) -> None:
    half = event_of(pack(bytes(MIB // 2)))
    assert opened_total([half, half], max_bytes=MIB) == MIB
    with pytest.raises(TooMuchError, match=f"more than {MIB} bytes in one request"):
        opened_total([half, half, event_of(pack(b"x"))], max_bytes=MIB)


def test_a_bomb_that_does_not_say_its_size_is_read_once() -> None:
    large = event_of(unsaid(bytes(64 * MIB)))
    assert opened_total([large], max_bytes=MIB) == MIB
    with pytest.raises(TooMuchError):
        opened_total([large, large], max_bytes=MIB)


# Room and quotas


def test_no_project_takes_all_the_room() -> None:
    door = admission(max_in_flight_bytes=12 * MIB)
    with door.hold("greedy", 4 * MIB), door.hold("greedy", 2 * MIB):
        with pytest.raises(UnavailableError, match="full for this project"), door.hold("greedy", 1):
            pass
        with door.hold("modest", 4 * MIB):
            pass
        with door.hold("second", 3 * MIB), door.hold("third", MIB):
            pass
    with door.hold("greedy", 20 * MIB):  # a request larger than all the room gets it when it is alone
        pass
    with door.hold("greedy", 6 * MIB):
        pass


def test_what_is_opened_is_held_and_charged_before_it_is() -> None:
    door = admission(quota_bytes_per_second=MIB, quota_burst_seconds=1, quota_spans_per_second=100)
    with door.hold("acme", 1000) as room:
        room.grow(3 * MIB)
        assert room.size == 1000 + 3 * MIB
    with pytest.raises(OverQuotaError), door.hold("acme", 1):
        pass
    with door.hold("other", 1) as room:
        room.charge_spans(1000)
    with pytest.raises(OverQuotaError), door.hold("other", 1):
        pass


# JSON texts


def empty_lists(count: int) -> str:
    """Three bytes each, sixty in memory."""
    return "[" + "[]," * count + "1]"


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (DatasetItemRecorded(input_json=empty_lists(60_000)), "x.input_json"),
        (
            DatasetItemRecorded(input_json='"a"', expected_output_json="[" + "1," * 110_000 + "1]"),
            "x.expected_output_json",
        ),
        (ExperimentItemFinished(output_json=empty_lists(60_000)), "x.output_json"),
        (
            ExperimentItemFinished(
                evaluations=[ItemEvaluation(name=f"{n}", metadata_json=empty_lists(9_000 + n)) for n in range(8)]
            ),
            "x.evaluations[7].metadata_json",
        ),
        (ScoreRecorded(metadata_json=empty_lists(60_000)), "x.metadata_json"),
        (PromptVersionCreated(config_json=empty_lists(60_000)), "x.config_json"),
    ],
    ids=["item", "numbers", "result", "all together", "score", "prompt"],
)
def test_json_that_becomes_too_much_is_refused_before_it_is_read(payload: Any, field: str) -> None:
    with pytest.raises(InvalidError, match=f"names and values.*; at most {MAX_JSON_VALUES} are taken") as refused:
        open_room().charge_payload(payload, "x")
    assert refused.value.field == field


def test_json_is_charged_by_what_it_becomes() -> None:
    door = admission(quota_spans_per_second=1_000, quota_burst_seconds=1)
    with door.hold("acme", 1) as room:
        room.charge_payload(DatasetItemRecorded(input_json="[" + "1," * (999 * JSON_VALUES_PER_SPAN) + "1]"), "x")
        with door.hold("acme", 1):
            pass
        room.charge_payload(DatasetItemRecorded(input_json="1"), "x")
    with pytest.raises(OverQuotaError), door.hold("acme", 1):
        pass
    room = open_room(max_spans=10_000)
    for _ in range(2):
        room.charge_payload(DatasetItemRecorded(input_json=empty_lists(49_000)), "x")
    with pytest.raises(TooMuchError, match="more than 200000 names and values in the JSON texts of one request"):
        room.charge_payload(DatasetItemRecorded(input_json=empty_lists(49_000)), "x")


async def test_who_calls_again_at_once_when_over_quota_waits_for_the_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Known(Admission):
        async def project_of(self, context: Any) -> str:
            return str(context)

    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    limits = GatewaySettings(quota_spans_per_second=100, quota_burst_seconds=1)
    door = Known(limits, cast("Any", None), cast("Any", QuietLog()), clock=lambda: 0.0)
    door.count_spans("greedy", 105)
    assert await door.admit(cast("Any", "modest")) == "modest"
    with pytest.raises(OverQuotaError):
        await door.admit(cast("Any", "greedy"))
    assert waited == [0.05]
    door.count_spans("greedy", 1000)
    with pytest.raises(OverQuotaError):
        await door.admit(cast("Any", "greedy"))
    assert waited[1:] == [0.2]


def test_what_is_beyond_a_projects_fair_rate_goes_to_the_bulk_and_nothing_of_others() -> None:
    door = admission(fair_spans_per_second=100, fair_bytes_per_second=MIB, quota_burst_seconds=1)
    assert [door.lane("greedy", size=1, spans=60) for _ in range(3)] == [Lane.EXPRESS, Lane.EXPRESS, Lane.BULK]
    assert door.lane("modest", size=1, spans=60) is Lane.EXPRESS
    assert door.lane("large", size=2 * MIB, spans=1) is Lane.EXPRESS
    assert door.lane("large", size=1, spans=1) is Lane.BULK


@given(st.binary(max_size=40), st.sampled_from(Lane), st.integers(1, 30))
def test_lanes_share_no_partition(key: bytes, lane: Lane, partitions: int) -> None:
    partition = lane_partition(key, lane, partitions)
    assert 0 <= partition < partitions
    assert partition == lane_partition(key, lane, partitions)
    if partitions > 8:
        assert is_bulk(TRACES, partition) is (lane is Lane.BULK)


def test_the_spans_of_all_events_of_a_request_count_together() -> None:
    with admission(max_spans=100).hold("acme", 1) as room:
        room.charge_spans(60)
        with pytest.raises(TooMuchError, match="more than 100 spans in one request"):
            room.charge_spans(60)


# Turns


async def test_projects_take_turns_whatever_they_have_waiting() -> None:
    turns, order = Turns(), list[str]()

    async def work(project: str) -> None:
        async with turns.of(project):
            order.append(project)

    async with turns.of("greedy"):
        waiting = [asyncio.create_task(work("greedy")) for _ in range(5)]
        await asyncio.sleep(0)
        waiting += [asyncio.create_task(work(project)) for project in ("modest", "other", "modest")]
        await asyncio.sleep(0)
        assert not order
    await asyncio.gather(*waiting)
    assert order == ["greedy", "modest", "other", "greedy", "modest", "greedy", "greedy", "greedy"]


async def test_whoever_gives_up_waiting_takes_no_turn() -> None:
    turns = Turns()
    entered = 0

    async def work() -> None:
        nonlocal entered
        async with turns.of("acme") as turn:
            entered += 1
            await turn.give()
            await turn.in_thread(bytes, b"x")

    for cancelled_after in range(12):
        tasks = [asyncio.create_task(work()) for _ in range(4)]
        for _ in range(cancelled_after):
            await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(5), turns.of("other"):
            pass
    assert entered >= 24


async def test_a_log_that_is_away_and_a_full_gateway_are_refused_by_what_is_the_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = admission(max_in_flight_bytes=MIB)

    async def acme(_context: object) -> str:
        return "acme"

    monkeypatch.setattr(limits, "project_of", acme)
    assert await limits.admit(cast("Any", None)) == "acme"
    monkeypatch.setattr(QuietLog, "unavailable", "the event log is away")
    with pytest.raises(UnavailableError, match=r"^the event log is away$") as away:
        await limits.admit(cast("Any", None))
    assert away.value.retry_seconds
    monkeypatch.setattr(QuietLog, "unavailable", None)
    with limits.hold("acme", 2 * MIB // 3), pytest.raises(UnavailableError, match="full for this project"):
        await limits.admit(cast("Any", None))
    assert await limits.admit(cast("Any", None)) == "acme"


def test_of_json_texts_the_largest_is_named_with_what_is_beside_it() -> None:
    large, small = "[" + "1," * MAX_JSON_VALUES + "1]", "[1,2]"
    room = open_room()
    with pytest.raises(InvalidError, match=rf"^p\.input_json: has \d+ names and values; at most {MAX_JSON_VALUES} are"):
        room.charge_payload(DatasetItemRecorded(input_json=large), "p")
    with pytest.raises(InvalidError, match=r"^p\.input_json: has \d+ names and values, \d+ with what is beside it; at"):
        room.charge_payload(DatasetItemRecorded(input_json=large, metadata_json=small), "p")
