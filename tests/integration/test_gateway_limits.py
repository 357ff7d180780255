"""Hostile and broken input ends with a status that names what is wrong, and the gateway goes on."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import grpc
import psutil
import pytest
import zstandard
from lodestream_proto.v1.ingest_pb2 import EVENT_OUTCOME_ACCEPTED, EVENT_OUTCOME_REFUSED, RecordRequest
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_NONE, COMPRESSION_ZSTD
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue

from tests.conftest import RunningService, StartService
from tests.support.gateway import EXPORT, MODULE, Door, new_key, opened, refusal, request_of, retry_delay, spans_in
from tests.support.records import event, span
from tests.support.servers import Servers

MIB = 1024 * 1024
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture
async def gateway(service: StartService, database: str) -> RunningService:
    return await service(MODULE, LODESTREAM_POSTGRES=database, LODESTREAM_GATEWAY_MAX_MESSAGE_BYTES=str(4 * MIB))


@pytest.fixture
async def door(servers: Servers, database: str, gateway: RunningService) -> AsyncIterator[Door]:
    async with opened(gateway.address, await new_key(database), dsn=database, kafka=servers.kafka) as door:
        yield door


async def test_garbage_is_never_an_unknown_error(door: Door) -> None:
    chance = random.Random(7)
    good = request_of(span(1, 1), span(1, 2)).SerializeToString()
    for _ in range(300):
        if chance.random() < 0.5:
            raw = chance.randbytes(chance.randrange(1, 200))
        else:
            damaged = bytearray(good[: chance.randrange(1, len(good) + 1)])
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            raw = bytes(damaged)
        try:
            await door.export_bytes(raw)
        except grpc.aio.AioRpcError as error:
            assert error.code() == INVALID, (raw, error)  # noqa: PT017 - other bytes are taken
            assert (error.details() or "").startswith("request: is no ExportTraceServiceRequest: ")  # noqa: PT017
    await door.export(request_of(span(1, 1)))


async def test_a_string_that_is_no_text_costs_only_its_span(door: Door) -> None:
    raw = request_of(span(1, 1), span(1, 2, name="spoiled!"), span(1, 3)).SerializeToString()
    export: Any = door.channel.unary_unary(EXPORT)
    call = export(raw.replace(b"spoiled!", b"\xff" * 8), metadata=door.bearer, timeout=15)
    answer = await call
    token = str(dict(await call.trailing_metadata())["lodestream-position"])
    assert b"resource_spans[0].scope_spans[0].spans[1]: can't be read: String field had bad UTF-8" in answer
    (record,) = await door.at(token)
    assert [found.span_id for found in spans_in(record)] == [span(1, n).span_id for n in (1, 3)]


async def test_values_nested_without_end_cost_only_their_span(door: Door) -> None:
    def nested(depth: int) -> bytes:
        value = AnyValue(string_value="the end")
        for _ in range(40):
            value = AnyValue(array_value=ArrayValue(values=[value]))
        raw = value.SerializeToString()
        for _ in range(depth - 40):
            raw = field(5, field(1, raw))
        return raw

    deep = span(1, 2).SerializeToString() + field(9, field(1, b"k") + field(2, nested(5000)))
    fine = span(1, 1)
    fine.attributes.append(KeyValue(key="k", value=AnyValue.FromString(nested(40))))
    raw = field(1, field(2, field(2, fine.SerializeToString()) + field(2, deep)))
    answer = await door.export_bytes(raw)
    assert b"spans[1]: can't be read" in answer
    assert b"Depth" in answer
    error = await refusal(door.export_bytes(field(1, field(2, field(2, deep)))))
    assert error.code() == INVALID
    assert "resource_spans[0].scope_spans[0].spans[0]" in (error.details() or "")


def field(number: int, raw: bytes) -> bytes:
    """A length-delimited field on the wire."""
    size, length = len(raw), b""
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + raw


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_a_message_too_large_is_refused_before_it_fills_the_memory(
    door: Door, gateway: RunningService, compression: grpc.Compression
) -> None:
    process = psutil.Process(gateway.process.pid)
    await door.export(request_of(span(1, 1)))
    before = process.memory_info().rss
    error = await refusal(door.export_bytes(bytes(200 * MIB), compression=compression, timeout=60))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert process.memory_info().rss - before < 64 * MIB
    await door.export(request_of(span(1, 1)))
    assert "a call failed" not in gateway.process.output()


async def test_a_call_without_a_message_is_told(door: Door) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        none: tuple[bytes, ...] = ()
        for raw in none:
            yield raw

    call: Any = door.channel.stream_unary(EXPORT)
    error = await refusal(call(nothing(), metadata=door.bearer, timeout=15))
    assert error.code() == INVALID


async def test_metadata_without_end_is_refused(door: Door) -> None:
    many = tuple((f"h{n}", "x" * 100) for n in range(1000))
    error = await refusal(door.export(request_of(span(1, 1)), metadata=(*door.bearer, *many)))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    await door.export(request_of(span(1, 1)))


async def test_too_many_spans_are_told(servers: Servers, service: StartService, database: str) -> None:
    gateway = await service(MODULE, LODESTREAM_POSTGRES=database, LODESTREAM_GATEWAY_MAX_SPANS="3")
    async with opened(gateway.address, await new_key(database), kafka=servers.kafka) as door:
        await door.export(request_of(*(span(1, n) for n in range(1, 4))))
        error = await refusal(door.export(request_of(*(span(1, n) for n in range(1, 5)))))
    assert error.code() == INVALID
    assert error.details() == "request.resource_spans: 4 spans in one request; at most 3 are taken"


async def test_a_span_too_large_for_the_log_is_refused_alone(
    servers: Servers, database: str, service: StartService
) -> None:
    gateway = await service(MODULE, LODESTREAM_POSTGRES=database)
    noise = random.Random(3).randbytes(3 * MIB).hex()
    large = span(1, 2, attributes={"input.value": noise})
    async with opened(gateway.address, await new_key(database), kafka=servers.kafka) as door:
        answer, token = await door.export(request_of(span(1, 1), large, span(1, 3)))
        assert answer.partial_success.rejected_spans == 1
        assert answer.partial_success.error_message.startswith("resource_spans[0].scope_spans[0].spans[1]: has ")
        kept = {found.span_id for record in await door.at(token) for found in spans_in(record)}
        assert kept <= {span(1, 1).span_id, span(1, 3).span_id}
        assert kept


async def test_each_bad_event_is_named_and_the_good_ones_are_kept(door: Door) -> None:
    good, uncompressed = event([span(1, 1)]), event([span(1, 2)])
    uncompressed.event_id = ""
    uncompressed.spans_recorded.compression = COMPRESSION_NONE
    uncompressed.spans_recorded.otlp_request = request_of(span(1, 2)).SerializeToString()
    bomb, damaged, unnamed, ancient, empty = (event([span(1, 3)]) for _ in range(5))
    bomb.spans_recorded.otlp_request = zstandard.compress(bytes(100 * MIB))
    damaged.spans_recorded.otlp_request = zstandard.compress(b"\xff\xff")
    unnamed.event_id = "my-event"
    ancient.occurred_at.seconds = -1
    empty.spans_recorded.otlp_request = zstandard.compress(b"")
    alien = event([span(1, 4)])
    alien.spans_recorded.compression = 77  # type: ignore[assignment]
    events = [good, uncompressed, bomb, damaged, unnamed, ancient, empty, alien]
    answer = await door.ingest.Record(RecordRequest(events=events), metadata=door.bearer, timeout=15)
    outcomes = [result.outcome for result in answer.results]
    assert outcomes == [EVENT_OUTCOME_ACCEPTED] * 2 + [EVENT_OUTCOME_REFUSED] * 6
    told = [(result.field, result.reason) for result in answer.results[2:]]
    otlp_request = "spans_recorded.otlp_request"
    assert [name for name, _ in told] == [otlp_request, otlp_request, "event_id", "occurred_at"] + [otlp_request] * 2
    assert all(reason for _, reason in told)
    assert answer.results[1].event_id, "an event without an id is given one"
    records = await door.at(answer.position)
    assert {record.event.project_id for record in records if record.event} == {"acme"}
    assert all(record.event.spans_recorded.compression == COMPRESSION_ZSTD for record in records if record.event)


async def test_an_event_that_is_no_text_costs_only_itself(door: Door) -> None:
    spoiled = event([span(1, 2)])
    spoiled.producer.name = "spoiled!"
    raw = RecordRequest(events=[event([span(1, 1)]), spoiled]).SerializeToString().replace(b"spoiled!", b"\xff" * 8)
    record: Any = door.channel.unary_unary("/lodestream_proto.v1.IngestService/Record")
    answer = await record(raw, metadata=door.bearer, timeout=15)
    assert b"events[1]" in answer
    assert b"bad UTF-8" in answer


async def test_calls_of_others_overtake_a_crowd_that_is_paced(
    service: StartService, servers: Servers, database: str
) -> None:
    gateway = await service(
        MODULE,
        LODESTREAM_POSTGRES=database,
        LODESTREAM_GATEWAY_FAIR_CALLS_PER_SECOND="1",
        LODESTREAM_GATEWAY_LATE_SECONDS="0",
        LODESTREAM_GATEWAY_ACK_SECONDS="60",
    )
    async with (
        opened(gateway.address, await new_key(database, "crowd"), kafka=servers.kafka) as crowd,
        opened(gateway.address, await new_key(database, "single"), kafka=servers.kafka) as single,
    ):
        await asyncio.gather(*(crowd.export(request_of(span(1, n))) for n in range(1, 41)))  # nobody else is there
        await single.export(request_of(span(1, 1)))
        under_way = [asyncio.create_task(crowd.export(request_of(span(2, n)), timeout=60)) for n in range(1, 41)]
        await asyncio.wait(under_way, timeout=15, return_when=asyncio.FIRST_COMPLETED)
        for number in range(2, 5):
            await single.export(request_of(span(1, number)))
        assert not all(task.done() for task in under_way)
        refused = await refusal(crowd.export(request_of(span(3, 1)), timeout=10))
        assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, refused
        assert "fair rate while others call" in (refused.details() or "")
        assert retry_delay(refused) >= 1
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await single.export(request_of(span(1, 5)))
