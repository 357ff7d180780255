"""A gateway and a projection stay within the memory that docs/operations.md states, whatever is sent to them."""

import os
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
import zstandard
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.ingest_pb2 import EVENT_OUTCOME_ACCEPTED, RecordRequest
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_ZSTD, SpansRecorded

from tests.support.gateway import MODULE, Door, new_key, opened, refusal, request_of
from tests.support.log_access import append
from tests.support.memory import MIB, peak
from tests.support.polling import until
from tests.support.read_model import TRACES_PROJECTION, Table, begin_at_the_end
from tests.support.records import event, span
from tests.support.servers import Servers

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
RECORD = "/lodestream_proto.v1.IngestService/Record"


def limit(process: str) -> int:
    """The bytes that the operators' page states for a process."""
    found = re.search(rf"^\| {process} \| (\d+) MiB \|", PAGE, re.MULTILINE)
    assert found, process
    return int(found[1]) * MIB


def spans_event(request: bytes, *, spans: int) -> Event:
    block = zstandard.compress(request)
    return Event(spans_recorded=SpansRecorded(otlp_request=block, compression=COMPRESSION_ZSTD, span_count=spans))


def field(number: int, raw: bytes) -> bytes:
    size, head = len(raw), bytearray([number << 3 | 2])
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*head, size]) + raw


def large(megabytes: int) -> bytes:
    """A request of one span."""
    return request_of(span(1, 1, attributes={"input.value": "x" * (megabytes * MIB)})).SerializeToString()


def many(spans: int) -> bytes:
    """A request of spans that differ in nothing but their ids, as small as they may be."""
    return field(1, field(2, b"".join(field(2, tiny(n)) for n in range(1, spans + 1))))


def tiny(number: int) -> bytes:
    one = span(2, number, name="", end_ms=None)
    return one.SerializeToString()


async def refused(door: Door, events: list[Event]) -> str:
    error = await refusal(door.ingest.Record(RecordRequest(events=events), metadata=door.bearer, timeout=60))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    return error.details() or ""


@pytest.fixture
def monsters() -> list[bytes]:
    """Records as an older gateway, or somebody else, may have written them."""
    requests = {
        "too many spans": field(1, field(2, b"\x12\x00" * 1_500_000)),
        "too many messages": field(1, field(2, b"\x12\x00" * 3_000_000)),
        "too many bytes": bytes(65 * MIB),
        "a large span": large(48),
        "many spans": many(60_000),
    }
    records = []
    for request in requests.values():
        record = event([span(1, 1)], project="old")
        record.spans_recorded.otlp_request = zstandard.compress(request)
        records.append(record.SerializeToString())
    return records


@pytest.mark.timeout(400)
async def test_what_is_sent_makes_no_process_larger_than_it_may_be(
    servers: Servers, service, database, monsters
) -> None:
    await begin_at_the_end(servers.kafka, database)
    projection = await service(
        TRACES_PROJECTION, LODESTREAM_POSTGRES=database, LODESTREAM_TRACES_GROUP=f"test-{uuid4().hex[:8]}"
    )
    quota = {f"LODESTREAM_GATEWAY_QUOTA_{what}_PER_SECOND": "1e9" for what in ("BYTES", "SPANS")}
    gateway = await service(MODULE, LODESTREAM_POSTGRES=database, **quota)
    async with opened(gateway.address, await new_key(database), dsn=database, kafka=servers.kafka) as door:
        bomb = spans_event(large(15), spans=1)
        assert "bytes in one request when they are decompressed" in await refused(door, [bomb] * 150)
        crowd = spans_event(many(40_000), spans=40_000)
        assert "more than 50000 spans in one request" in await refused(door, [crowd] * 3)
        record: Any = door.channel.unary_unary(RECORD)
        error = await refusal(record(b"\x0a\x00" * 4_000_000, metadata=door.bearer, timeout=60))
        assert "events: hold more than" in (error.details() or "")
        monster = span(1, 2).SerializeToString() + b"\x4a\x00" * 4_000_000
        answer = await door.export_bytes(field(1, field(2, field(2, monster))), timeout=60)
        assert b"messages within one another" in answer
        for each in (bomb, crowd):
            for _ in range(2):
                answer = await door.ingest.Record(RecordRequest(events=[each]), metadata=door.bearer, timeout=60)
                assert [result.outcome for result in answer.results] == [EVENT_OUTCOME_ACCEPTED]
        noise = request_of(span(1, 3, attributes={"input.value": os.urandom(MIB // 2).hex()}))
        await door.export(noise)
    await append(servers.kafka, [(n % 2, value) for n, value in enumerate([*monsters, *monsters])])
    table, old = Table(database, "acme"), Table(database, "old")
    await until(table.holds(40_002), deadline=120)
    await until(old.holds(60_001), deadline=120)
    letters = "SELECT count(*) FROM dead_letters WHERE project_id = $1"

    async def set_aside() -> bool:
        return await old.value(letters, "old") >= 6

    await until(set_aside, deadline=120)
    assert peak(gateway.process) < limit("the gateway")
    assert peak(projection.process) < limit("the traces projection")
