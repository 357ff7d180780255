"""What can't be folded costs only itself; too much of it stops the partition, and nothing is skipped."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.prompt_event_pb2 import PromptArchived
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from shared.read_model.blocks import Source
from shared.read_model.dialects import Hot, hot
from shared.read_model.progress import resume
from tests.projecting import Projecting, projecting
from tests.records import NOON, at, event, record, span

SIZE = 8
REFUSE_POISON = "ALTER TABLE spans ADD CONSTRAINT no_poison CHECK (name <> 'poison')"


@pytest.fixture
async def projection(database) -> AsyncIterator[Projecting]:
    async with projecting(database) as projection:
        await projection.pool.execute(REFUSE_POISON)
        yield projection


async def letters(projection: Projecting) -> list[asyncpg.Record]:
    return list(await projection.pool.fetch('SELECT * FROM dead_letters ORDER BY partition, "offset", item'))


@pytest.mark.parametrize("position", range(SIZE))
async def test_a_span_the_database_refuses_costs_only_itself(projection, position: int) -> None:
    spans = [span(1, n + 1, name="poison" if n == position else "good") for n in range(SIZE)]
    await projection.fold(record(spans, offset=0), record([span(2, 1)], offset=1))
    assert await projection.count("spans") == SIZE
    assert await projection.pool.fetchval("SELECT sum(span_count) FROM traces") == SIZE
    (letter,) = await letters(projection)
    assert (letter["project_id"], letter["partition"], letter["offset"], letter["item"]) == ("p", 0, 0, position)
    assert "no_poison" in letter["reason"]
    assert letter["code_version"].startswith("lodestream-server ")
    (sent,) = ExportTraceServiceRequest.FromString(letter["raw"]).resource_spans[0].scope_spans[0].spans
    assert sent == spans[position]
    assert (await projection.progress())[0].next_offset == 2


async def test_a_refused_span_among_stored_ones_costs_only_itself(projection) -> None:
    """The slow path isolates as well."""
    await projection.fold(record([span(1, n, end_ms=None) for n in range(1, 6)], offset=0))
    ended = [span(1, n, name="poison" if n == 3 else "good") for n in range(1, 8)]
    await projection.fold(record(ended, offset=1))
    (letter,) = await letters(projection)
    assert (letter["offset"], letter["item"]) == (1, 2)
    rows = await projection.pool.fetch("SELECT name, end_at IS NOT NULL AS ended FROM spans ORDER BY span_id")
    assert [tuple(row) for row in rows] == [*[("good", True)] * 2, ("step", False), *[("good", True)] * 4]
    assert await projection.pool.fetchval("SELECT span_count FROM traces") == 7


@pytest.mark.parametrize("garbage", [b"\xff\xff garbage", b"", event([], project="").SerializeToString()])
async def test_an_unreadable_record_is_kept_whole(projection, garbage: bytes) -> None:
    await projection.fold(record([span(1, 1)], offset=0), at(garbage, offset=1), record([span(1, 2)], offset=2))
    assert await projection.count("spans") == 2
    (letter,) = await letters(projection)
    assert (letter["project_id"], letter["offset"], letter["item"], letter["raw"]) == ("", 1, -1, garbage)


async def test_a_record_whose_spans_cannot_be_opened_is_kept_whole(projection) -> None:
    damaged = event([span(1, 1)])
    damaged.spans_recorded.otlp_request = b"not zstd"
    await projection.fold(at(damaged.SerializeToString(), offset=0), record([span(1, 2)], offset=1))
    (letter,) = await letters(projection)
    assert (letter["project_id"], letter["item"], letter["raw"]) == ("p", -1, damaged.SerializeToString())
    assert "zstd" in letter["reason"]
    assert await projection.count("spans") == 1


async def test_a_span_that_trips_a_dialect_costs_only_itself(projection, monkeypatch: pytest.MonkeyPatch) -> None:
    """No dialect may raise; one that does all the same must not stop a partition for ever."""

    def trip(source: Source) -> Hot:
        if source.span.name == "tripping":
            raise KeyError("nobody thought of this")
        return hot(source)

    monkeypatch.setattr("services.projections.traces.folding.fold.hot", trip)
    await projection.fold(record([span(1, 1), span(1, 2, name="tripping"), span(1, 3)], offset=0))
    (letter,) = await letters(projection)
    assert (letter["item"], letter["reason"]) == (1, "KeyError: 'nobody thought of this'")
    assert await projection.count("spans") == 2


async def test_a_record_received_at_no_time_is_kept_whole(projection) -> None:
    timeless = event([span(1, 1)])
    timeless.received_at.seconds = 2**60
    await projection.fold(at(timeless.SerializeToString(), offset=0), record([span(1, 2)], offset=1))
    (letter,) = await letters(projection)
    assert (letter["item"], letter["raw"]) == (-1, timeless.SerializeToString())
    assert await projection.count("spans") == 1


async def test_an_event_of_another_kind_is_parked(projection) -> None:
    stray = Event(event_id="e", project_id="p", prompt_archived=PromptArchived())
    unknown = (
        Event(event_id="e", project_id="p").SerializeToString() + b"\xfa\x3e\x00"
    )  # field 1007, of a later version
    await projection.fold(
        at(stray.SerializeToString(), offset=0), at(unknown, offset=1), record([span(1, 1)], offset=2)
    )
    stray_letter, unknown_letter = await letters(projection)
    assert "prompt_archived" in stray_letter["reason"]
    assert unknown_letter["raw"] == unknown
    assert await projection.count("spans") == 1


async def test_too_much_poison_stops_the_partition_and_skips_nothing(projection) -> None:
    good = [record([span(1, n + 1)], offset=n) for n in range(3)]
    await projection.fold(*good)
    bad = [record([span(2, n * 50 + i + 1, name="poison") for i in range(50)], offset=3 + n) for n in range(3)]
    elsewhere = record([span(3, 1)], partition=1)
    await projection.fold(*bad, elsewhere)
    progress = await projection.progress()
    assert progress[0].next_offset == 3
    assert "in a row could not be folded" in progress[0].halted_reason
    assert progress[1].halted_reason is None
    assert (await projection.count("spans"), await projection.count("dead_letters")) == (4, 0)

    await projection.fold(*bad)
    assert (await projection.progress())[0].next_offset == 3, "halted is halted"

    async with projection.pool.acquire() as connection:
        await connection.execute("ALTER TABLE spans DROP CONSTRAINT no_poison")
        assert await resume(connection, "traces", 0) == [0]
    await projection.fold(*bad)
    assert (await projection.progress())[0].next_offset == 6
    assert (await projection.count("spans"), await projection.count("dead_letters")) == (154, 0)


async def test_a_dropped_partition_is_no_poison(projection) -> None:
    """Somebody removed a day's table that this process believes in."""
    await projection.fold(record([span(1, 1)], offset=0))
    await projection.pool.execute(f"DROP TABLE spans_{NOON:%Y%m%d}")
    with pytest.raises(Exception, match="partitions were missing"):
        await projection.fold(record([span(1, 2)], offset=1))
    await projection.fold(record([span(1, 2)], offset=1))
    assert (await projection.count("spans"), await projection.count("dead_letters")) == (1, 0)
