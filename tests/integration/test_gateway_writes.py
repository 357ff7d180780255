"""What the gateway acknowledges is in the log; what it can't take is refused by name, the rest beside it kept."""

import asyncio
import base64
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.ingest_pb2 import EVENT_OUTCOME_ACCEPTED, EVENT_OUTCOME_REFUSED, RecordRequest, StreamRequest
from lodestream_proto.v1.ingest_pb2_grpc import IngestServiceStub
from lodestream_proto.v1.prompt_event_pb2 import PromptArchived
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from shared.event_log.codec import Recorded
from shared.event_log.position import from_token
from shared.read_model.blocks import open_block
from shared.read_model.keys import create_key, create_project, revoke_key
from shared.read_model.postgres import SEARCH_PATH
from tests.log_access import read_at
from tests.records import event, span

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@dataclass(frozen=True, slots=True)
class Door:
    """A gateway and a project's key."""

    channel: grpc.aio.Channel
    public_key: str
    secret_key: str
    dsn: str
    kafka: str

    @property
    def bearer(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.secret_key}"),)

    async def at(self, token: str) -> list[Recorded]:
        return [await read_at(self.kafka, position) for position in from_token(token)]


@pytest.fixture
async def door(servers, database, service) -> AsyncIterator[Door]:
    connection = await asyncpg.connect(database, server_settings={"search_path": SEARCH_PATH})
    await create_project(connection, "acme", "Acme")
    key = await create_key(connection, "acme")
    await connection.close()
    gateway = await service("services.write.gateway", LODESTREAM_POSTGRES=database)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        yield Door(channel, key.public_key, key.secret_key, database, servers.kafka)


def request_of(*spans: Span) -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])])


async def export(door: Door, request: ExportTraceServiceRequest, **options):
    call = TraceServiceStub(door.channel).Export(request, **{"metadata": door.bearer, "timeout": 15, **options})
    answer = await call
    trailing = dict(await call.trailing_metadata() or ())
    return answer, str(trailing.get("lodestream-position", ""))


async def refusal(call) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_an_acknowledged_request_is_in_the_log_as_it_came(door, compression) -> None:
    request = request_of(span(1, 1), span(1, 2, parent=1))
    answer, token = await export(door, request, compression=compression)
    assert answer.partial_success.rejected_spans == 0
    (record,) = await door.at(token)
    assert record.event is not None
    assert record.event.project_id == "acme"
    recorded = record.event.spans_recorded
    assert recorded.span_count == 2
    assert open_block(recorded.compression, recorded.otlp_request) == request


async def test_a_bad_span_is_refused_alone_and_named(door) -> None:
    bad = span(1, 2)
    bad.trace_id = b"short"
    unborn = span(1, 4)
    unborn.start_time_unix_nano = 0
    answer, token = await export(door, request_of(span(1, 1), bad, span(1, 3), unborn))
    assert answer.partial_success.rejected_spans == 2
    assert "resource_spans[0].scope_spans[0].spans[1].trace_id: has 5 bytes" in answer.partial_success.error_message
    assert "spans[3].start_time_unix_nano: is missing" in answer.partial_success.error_message
    (record,) = await door.at(token)
    assert record.event is not None
    kept = open_block(record.event.spans_recorded.compression, record.event.spans_recorded.otlp_request)
    assert [found.span_id[-1] for found in kept.resource_spans[0].scope_spans[0].spans] == [1, 3]


async def test_a_request_too_large_for_a_record_becomes_several(door) -> None:
    random_text = random.Random(1).randbytes
    large = [span(1, n + 1, attributes={"input.value": random_text(400_000).hex()}) for n in range(6)]
    _, token = await export(door, request_of(*large))
    records = await door.at(token)
    # Records of one key share a partition, and a token names the last of them.
    assert records[-1].event is not None
    assert records[-1].event.spans_recorded.span_count < 6


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", b"\x0a\x05abc", request_of(span(1, 1)).SerializeToString()[:-3]])
async def test_bytes_that_are_no_request_are_told(door, garbage: bytes) -> None:
    error = await refusal(door.channel.unary_unary(EXPORT)(garbage, metadata=door.bearer))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "ExportTraceServiceRequest" in (error.details() or "")


async def test_only_a_known_key_opens(door) -> None:
    def basic(public: str, secret: str) -> str:
        return "Basic " + base64.b64encode(f"{public}:{secret}".encode()).decode()

    request = request_of(span(1, 1))
    await export(door, request, metadata=(("authorization", basic(door.public_key, door.secret_key)),))
    mistyped = door.secret_key[:-1] + ("0" if door.secret_key[-1] != "0" else "1")
    for wrong in (
        None,
        "Bearer",
        "Token x",
        f"Bearer {mistyped}",
        "Bearer sk-ls-unknown",
        basic("pk-ls-other", door.secret_key),
        "Basic ###",
    ):
        metadata = () if wrong is None else (("authorization", wrong),)
        error = await refusal(export(door, request, metadata=metadata))
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED, wrong


async def test_a_revoked_key_is_refused_by_a_gateway_that_did_not_know_it(door) -> None:
    connection = await asyncpg.connect(door.dsn, server_settings={"search_path": SEARCH_PATH})
    key = await create_key(connection, "acme")
    assert await revoke_key(connection, key.public_key)
    await connection.close()
    metadata = (("authorization", f"Bearer {key.secret_key}"),)
    error = await refusal(export(door, request_of(span(1, 1)), metadata=metadata))
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_record_answers_for_each_event(door) -> None:
    good = event([span(1, 1)], project="somebody-else")
    stray = Event(prompt_archived=PromptArchived())
    damaged = event([span(1, 2)])
    damaged.spans_recorded.otlp_request = b"no zstd"
    stub = IngestServiceStub(door.channel)
    answer = await stub.Record(RecordRequest(events=[good, stray, damaged]), metadata=door.bearer, timeout=15)
    outcomes = [result.outcome for result in answer.results]
    assert outcomes == [EVENT_OUTCOME_ACCEPTED, EVENT_OUTCOME_REFUSED, EVENT_OUTCOME_REFUSED]
    assert [result.field for result in answer.results] == ["", "prompt_archived", "spans_recorded.otlp_request"]
    (record,) = await door.at(answer.position)
    assert record.event is not None
    assert record.event.project_id == "acme", "the project is the key's, whatever the payload says"
    assert record.event.event_id == good.event_id


async def test_a_stream_answers_each_request_in_order(door) -> None:
    async def requests():
        for number in range(3):
            yield StreamRequest(record=RecordRequest(events=[event([span(1, number + 1)])]))

    answers = [a async for a in IngestServiceStub(door.channel).Stream(requests(), metadata=door.bearer, timeout=15)]
    assert [len(answer.recorded.results) for answer in answers] == [1, 1, 1]
    assert all(answer.recorded.position for answer in answers)


async def test_more_than_the_quota_is_refused_with_a_time_to_retry(servers, database, service) -> None:
    connection = await asyncpg.connect(database, server_settings={"search_path": SEARCH_PATH})
    await create_project(connection, "greedy", "Greedy")
    key = await create_key(connection, "greedy")
    await connection.close()
    gateway = await service(
        "services.write.gateway", LODESTREAM_POSTGRES=database, LODESTREAM_GATEWAY_QUOTA_BYTES_PER_SECOND="200"
    )
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = TraceServiceStub(channel)
        metadata = (("authorization", f"Bearer {key.secret_key}"),)
        calls = [stub.Export(request_of(span(1, 1)), metadata=metadata, timeout=15) for _ in range(50)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
    assert 0 < len(refused) < len(outcomes)
    assert {error.code() for error in refused} == {grpc.StatusCode.UNAVAILABLE}
    assert all(retry_delay(error) > 0 for error in refused)


def retry_delay(error: grpc.aio.AioRpcError) -> float:
    """Seconds, from RetryInfo; fails when there is none."""
    trailing = dict(error.trailing_metadata() or ())
    info = RetryInfo()
    assert Status.FromString(trailing["grpc-status-details-bin"]).details[0].Unpack(info)
    return info.retry_delay.ToMilliseconds() / 1000
