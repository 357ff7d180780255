"""What the gateway acknowledges is in the log; what it can't take is refused by name, the rest beside it kept."""

import asyncio
import base64
import random
from collections.abc import AsyncIterator

import asyncpg
import grpc
import pytest
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.ingest_pb2 import EVENT_OUTCOME_ACCEPTED, EVENT_OUTCOME_REFUSED, RecordRequest, StreamRequest
from lodestream_proto.v1.prompt_event_pb2 import PromptArchived

from shared.auth.keys import create_key, revoke_key
from shared.spans.blocks import open_block
from shared.storage.postgres import SEARCH_PATH
from tests.support.gateway import MODULE, Door, new_key, opened, refusal, request_of, retry_delay
from tests.support.records import event, span


@pytest.fixture
async def door(servers, database, service) -> AsyncIterator[Door]:
    key = await new_key(database)
    gateway = await service(MODULE, LODESTREAM_POSTGRES=database)
    async with opened(gateway.address, key, dsn=database, kafka=servers.kafka) as door:
        yield door


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_an_acknowledged_request_is_in_the_log_as_it_came(door, compression) -> None:
    request = request_of(span(1, 1), span(1, 2, parent=1))
    answer, token = await door.export(request, compression=compression)
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
    answer, token = await door.export(request_of(span(1, 1), bad, span(1, 3), unborn))
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
    _, token = await door.export(request_of(*large))
    records = await door.at(token)
    # Records of one key share a partition, and a token names the last of them.
    assert records[-1].event is not None
    assert records[-1].event.spans_recorded.span_count < 6


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", b"\x0a\x05abc", request_of(span(1, 1)).SerializeToString()[:-3]])
async def test_bytes_that_are_no_request_are_told(door, garbage: bytes) -> None:
    error = await refusal(door.export_bytes(garbage))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "ExportTraceServiceRequest" in (error.details() or "")


async def test_only_a_known_key_opens(door) -> None:
    def basic(public: str, secret: str) -> str:
        return "Basic " + base64.b64encode(f"{public}:{secret}".encode()).decode()

    request = request_of(span(1, 1))
    await door.export(request, metadata=(("authorization", basic(door.key.public_key, door.key.secret_key)),))
    mistyped = door.key.secret_key[:-1] + ("0" if door.key.secret_key[-1] != "0" else "1")
    for wrong in (
        None,
        "Bearer",
        "Token x",
        f"Bearer {mistyped}",
        "Bearer sk-ls-unknown",
        basic("pk-ls-other", door.key.secret_key),
        "Basic ###",
    ):
        metadata = () if wrong is None else (("authorization", wrong),)
        error = await refusal(door.export(request, metadata=metadata))
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED, wrong


async def test_a_revoked_key_is_refused_by_a_gateway_that_did_not_know_it(door) -> None:
    connection = await asyncpg.connect(door.dsn, server_settings={"search_path": SEARCH_PATH})
    key = await create_key(connection, "acme")
    assert await revoke_key(connection, key.public_key)
    await connection.close()
    metadata = (("authorization", f"Bearer {key.secret_key}"),)
    error = await refusal(door.export(request_of(span(1, 1)), metadata=metadata))
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_record_answers_for_each_event(door) -> None:
    good = event([span(1, 1)], project="somebody-else")
    stray = Event(prompt_archived=PromptArchived())
    damaged = event([span(1, 2)])
    damaged.spans_recorded.otlp_request = b"no zstd"
    stub = door.ingest
    answer = await stub.Record(RecordRequest(events=[good, stray, damaged]), metadata=door.bearer, timeout=15)
    outcomes = [result.outcome for result in answer.results]
    assert outcomes == [EVENT_OUTCOME_ACCEPTED, EVENT_OUTCOME_REFUSED, EVENT_OUTCOME_REFUSED]
    assert [result.field for result in answer.results] == ["", "prompt_archived", "spans_recorded.otlp_request"]
    (record,) = await door.at(answer.position)
    assert record.event is not None
    assert record.event.project_id == "acme", "the project is the key's, whatever the payload says"
    assert record.event.event_id == good.event_id


async def test_a_stream_answers_each_request_in_order(door) -> None:
    async def requests() -> AsyncIterator[StreamRequest]:
        for number in range(3):
            yield StreamRequest(record=RecordRequest(events=[event([span(1, number + 1)])]))

    answers = [a async for a in door.ingest.Stream(requests(), metadata=door.bearer, timeout=15)]
    assert [len(answer.recorded.results) for answer in answers] == [1, 1, 1]
    assert all(answer.recorded.position for answer in answers)


async def test_more_than_the_quota_is_refused_with_a_time_to_retry(servers, database, service) -> None:
    key = await new_key(database, "greedy")
    gateway = await service(
        "services.write.gateway", LODESTREAM_POSTGRES=database, LODESTREAM_GATEWAY_QUOTA_BYTES_PER_SECOND="200"
    )
    async with opened(gateway.address, key) as door:
        calls = [door.export(request_of(span(1, 1))) for _ in range(50)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
    assert 0 < len(refused) < len(outcomes)
    assert {error.code() for error in refused} == {grpc.StatusCode.UNAVAILABLE}
    assert all(retry_delay(error) > 0 for error in refused)
