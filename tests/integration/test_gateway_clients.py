"""Programs as they are: OpenTelemetry's exporter, Langfuse's headers, two tenants, native streams and quotas."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from lodestream_proto.v1.ingest_pb2 import EVENT_OUTCOME_ACCEPTED, RecordRequest, StreamRequest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tests.conftest import StartService
from tests.support.gateway import MODULE, Door, bearer, new_key, opened, refusal, request_of, retry_delay, spans_in
from tests.support.log_access import ends, read_range
from tests.support.records import event, span
from tests.support.servers import Servers


@pytest.fixture
async def door(servers: Servers, database: str, service: StartService) -> AsyncIterator[Door]:
    gateway = await service(MODULE, LODESTREAM_POSTGRES=database)
    async with opened(gateway.address, await new_key(database), dsn=database, kafka=servers.kafka) as door:
        yield door


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_opentelemetrys_exporter_delivers(
    servers: Servers, database: str, service: StartService, compression: grpc.Compression
) -> None:
    gateway = await service(MODULE, LODESTREAM_POSTGRES=database)
    key, before = await new_key(database), await ends(servers.kafka)

    def trace() -> None:
        exporter = OTLPSpanExporter(
            endpoint=gateway.address, insecure=True, headers=bearer(key), compression=compression, timeout=15
        )
        provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
        provider.add_span_processor(BatchSpanProcessor(exporter))
        tracer = provider.get_tracer("test")
        with tracer.start_as_current_span("answer"), tracer.start_as_current_span("retrieve"):
            pass
        assert provider.force_flush()
        provider.shutdown()

    await asyncio.to_thread(trace)
    records = [record for record in await read_range(servers.kafka, before) if record.event]
    assert [sorted(found.name for found in spans_in(record)) for record in records] == [["answer", "retrieve"]]
    written = records[0].event
    assert written is not None
    assert (written.project_id, written.producer.name) == ("acme", "opentelemetry-python")
    assert written.producer.version


async def test_a_langfuse_sdk_is_known_by_its_headers(door: Door) -> None:
    metadata = (*door.bearer, ("x-langfuse-sdk-name", "python"), ("x-langfuse-sdk-version", "5.0.4"))
    _, token = await door.export(request_of(span(1, 1)), metadata=metadata)
    (record,) = await door.at(token)
    assert record.event is not None
    assert (record.event.producer.name, record.event.producer.version) == ("langfuse-python", "5.0.4")


async def test_a_key_writes_only_into_its_project(door: Door) -> None:
    rival = door.with_key(await new_key(door.dsn, "rival"))
    for its, project in ((door, "acme"), (rival, "rival")):
        _, token = await its.export(request_of(span(1, 1)))
        claimed = event([span(1, 1)], project="acme")
        native = await its.ingest.Record(RecordRequest(events=[claimed]), metadata=its.bearer, timeout=15)
        for record in [*await its.at(token), *await its.at(native.position)]:
            assert record.event is not None
            assert record.event.project_id == project


async def test_a_stream_takes_many_requests_at_the_same_time_and_answers_in_order(door: Door) -> None:
    async def requests() -> AsyncIterator[StreamRequest]:
        for number in range(1, 41):
            one = event([span(number, n + 1) for n in range(number % 3 + 1)])
            one.event_id = f"00000000-0000-7000-8000-{number:012}"
            yield StreamRequest(record=RecordRequest(events=[one]))

    answers = [answer async for answer in door.ingest.Stream(requests(), metadata=door.bearer, timeout=30)]
    results = [answer.recorded.results[0] for answer in answers]
    assert [int(result.event_id[-12:]) for result in results] == list(range(1, 41))
    assert {result.outcome for result in results} == {EVENT_OUTCOME_ACCEPTED}


async def test_a_stream_without_a_key_does_not_open(door: Door) -> None:
    async def requests() -> AsyncIterator[StreamRequest]:
        yield StreamRequest()

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        async for _ in door.ingest.Stream(requests(), timeout=15):
            pass
    assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_native_clients_are_told_of_their_quota_and_when_to_come_back(
    servers: Servers, database: str, service: StartService
) -> None:
    gateway = await service(MODULE, LODESTREAM_POSTGRES=database, LODESTREAM_GATEWAY_QUOTA_SPANS_PER_SECOND="1")
    async with opened(gateway.address, await new_key(database), kafka=servers.kafka) as door:
        request = RecordRequest(events=[event([span(1, n) for n in range(1, 21)])])
        await door.ingest.Record(request, metadata=door.bearer, timeout=15)
        error = await refusal(door.ingest.Record(request, metadata=door.bearer, timeout=15))
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert retry_delay(error) >= 10, "fifteen spans too many at one a second"
        assert int(dict(error.trailing_metadata() or ())["grpc-retry-pushback-ms"]) >= 10_000
        error = await refusal(door.export(request_of(span(1, 1))))
        assert error.code() == grpc.StatusCode.UNAVAILABLE, "to OTLP's clients RESOURCE_EXHAUSTED would be for good"
        assert retry_delay(error) >= 10

        async def requests() -> AsyncIterator[StreamRequest]:
            yield StreamRequest(record=request)

        (answer,) = [answer async for answer in door.ingest.Stream(requests(), metadata=door.bearer, timeout=15)]
        assert answer.retry.retry_after_ms >= 10_000
