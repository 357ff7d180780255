"""What can't be folded costs only itself; too much of it stops the partition, and nothing is skipped."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.prompt_event_pb2 import PromptArchived
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from services.projections.traces.projection import write_batch
from shared.projection.dead_letters import list_overflow
from shared.projection.progress import resume
from shared.projection.projector import ATTEMPTS
from shared.spans.blocks import ReceivedSpan
from shared.spans.dialects import SpanColumns, read_columns
from tests.support.projecting import Projecting, projecting
from tests.support.records import NOON, at, event, record, span

SIZE = 8
REFUSE_POISON = "ALTER TABLE spans ADD CONSTRAINT no_poison CHECK (name <> 'poison')"


@pytest.fixture
async def projection(database) -> AsyncIterator[Projecting]:
    async with projecting(database) as projection:
        await projection.pool.execute(REFUSE_POISON)
        yield projection


async def letters(projection: Projecting) -> list[asyncpg.Record]:
    return list(await projection.pool.fetch('SELECT * FROM dead_letters ORDER BY partition, "offset", item'))


async def position(projection: Projecting) -> tuple[int, str | None]:
    """The next offset of partition 0, and why it is halted."""
    progress = (await projection.progress())[0]
    return progress.next_offset, progress.halted_reason


def poison(trace: int, count: int, begin: int = 0) -> list[Span]:
    return [span(trace, begin + number + 1, name="poison") for number in range(count)]


def of_a_later_version(project: str) -> bytes:
    """An event with a payload in field 1007."""
    return Event(event_id="e", project_id=project).SerializeToString() + b"\xfa\x3e\x00"


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

    def trip(source: ReceivedSpan) -> SpanColumns:
        if source.span.name == "tripping":
            raise KeyError("nobody thought of this")
        return read_columns(source)

    monkeypatch.setattr("services.projections.traces.fold.read_columns", trip)
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


async def test_an_event_of_another_topic_is_a_dead_letter(projection) -> None:
    stray = Event(event_id="e", project_id="p", prompt_archived=PromptArchived())
    await projection.fold(at(stray.SerializeToString(), offset=0), record([span(1, 1)], offset=1))
    (letter,) = await letters(projection)
    assert "prompt_archived" in letter["reason"]
    assert await projection.count("spans") == 1


async def test_events_of_a_newer_gateway_are_parked_and_stop_nobody(projection) -> None:
    unknown = [at(of_a_later_version(f"p{n % 5}"), offset=n) for n in range(200)]
    await projection.fold(*unknown, record([span(1, 1)], offset=200))
    assert (await projection.count("spans"), await projection.count("dead_letters")) == (1, 0)
    parked = await projection.pool.fetch('SELECT "offset", project_id, raw FROM parked_records ORDER BY 1')
    assert [(row["offset"], row["raw"]) for row in parked] == [(each.offset, each.raw) for each in unknown]
    assert await position(projection) == (201, None)


async def test_a_version_that_knows_parked_events_folds_them(projection, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this version knows is parked as if it did not, by the version before."""
    with monkeypatch.context() as before:
        before.setattr("shared.projection.parking.is_of_unknown_kind", lambda event: event is not None)
        await projection.fold(record([span(1, 1)], offset=0), record([span(1, 2)], offset=1))
    unknown = at(of_a_later_version("p"), offset=2)
    await projection.fold(unknown)
    assert (await projection.count("spans"), await projection.count("parked_records")) == (0, 3)
    await projection.projector.unpark()
    assert await projection.count("spans") == 2
    assert await projection.pool.fetchval('SELECT "offset" FROM parked_records') == 2
    assert (await projection.progress())[0].next_offset == 3


async def test_one_project_s_poison_is_its_own_and_stops_nobody(projection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when nobody else writes; and no more of it is kept than the limit, the rest is counted."""
    monkeypatch.setattr("shared.projection.dead_letters.MOST_KEPT", 50)
    for offset in range(6):
        await projection.fold(record(poison(2, 20, begin=20 * offset), project="rival", offset=offset))
    await projection.fold(record([span(1, 1)], project="victim", offset=6))
    assert await position(projection) == (7, None)
    assert (await projection.count("spans"), await projection.count("dead_letters")) == (1, 50)
    async with projection.pool.acquire() as connection:
        (overflow,) = await list_overflow(connection, "traces")
        assert await list_overflow(connection, "traces", "victim") == []
    assert (overflow.project_id, overflow.letters) == ("rival", 120 - 50)
    assert (overflow.first_offset, overflow.last_offset) == (2, 5)
    assert "no_poison" in overflow.last_reason


async def test_large_letters_are_kept_up_to_a_size(projection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.projection.dead_letters.MOST_KEPT_BYTES", 3_000)
    large = [span(1, n, name="poison", attributes={"text": "x" * 1_000}) for n in range(1, 9)]
    await projection.fold(record(large, offset=0))
    assert await projection.count("dead_letters") == 2
    assert await projection.pool.fetchval("SELECT letters FROM dead_letter_overflow") == 6


async def test_poison_of_many_projects_stops_the_partition_and_skips_nothing(projection) -> None:
    good = [record([span(1, n + 1)], offset=n) for n in range(3)]
    await projection.fold(*good)
    bad = [record(poison(2 + n, 30), project=f"p{n}", offset=3 + n) for n in range(4)]
    elsewhere = record([span(9, 1)], partition=1)
    await projection.fold(*bad, elsewhere)
    progress = await projection.progress()
    assert progress[0].next_offset == 3
    assert "items of 4 of 5 projects could not be folded" in progress[0].halted_reason
    assert progress[1].halted_reason is None
    assert (await projection.count("spans"), await projection.count("dead_letters")) == (4, 0)

    await projection.fold(*bad)
    assert (await projection.progress())[0].next_offset == 3, "halted is halted"

    async with projection.pool.acquire() as connection:
        await connection.execute("ALTER TABLE spans DROP CONSTRAINT no_poison")
        assert await resume(connection, "traces", 0) == [0]
    await projection.fold(*bad)
    assert (await projection.progress())[0].next_offset == 7
    assert (await projection.count("spans"), await projection.count("dead_letters")) == (124, 0)


async def test_an_operator_may_pass_over_what_halted_a_partition(projection) -> None:
    bad = [record(poison(2 + n, 30), project=f"p{n}", offset=n) for n in range(4)]
    await projection.fold(*bad)
    assert (await projection.progress())[0].halted_until == 4
    async with projection.pool.acquire() as connection:
        assert await resume(connection, "traces", 0) == [0]
        await projection.fold(*bad)
        assert (await projection.progress())[0].halted_reason, "nothing has changed"
        assert await resume(connection, "traces", 0, set_aside=True) == [0]
    await projection.fold(*bad)
    assert await position(projection) == (4, None)
    assert (await projection.count("spans"), await projection.count("dead_letters")) == (0, 120)

    more = [record(poison(2 + n, 30), project=f"p{n}", offset=4 + n) for n in range(4)]
    await projection.fold(*more)
    assert (await projection.progress())[0].halted_reason, "only what halted it was passed over"


async def test_a_schema_that_takes_nothing_stops_even_a_partition_of_one_project(projection) -> None:
    await projection.pool.execute("ALTER TABLE spans ADD CONSTRAINT broken CHECK (name = 'none') NOT VALID")
    await projection.fold(record([span(1, n + 1) for n in range(100)], project="only", offset=0))
    progress = (await projection.progress())[0]
    assert (progress.next_offset, progress.halted_until) == (0, 1)
    assert "nor our own sample" in progress.halted_reason
    assert (await projection.count("spans"), await projection.count("dead_letters")) == (0, 0)


async def test_a_record_that_trips_the_projection_itself_does_not_come_again_for_ever(
    projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody thought of: the batch is tried again, then record by record."""

    async def trip(connection, records, projected, *, projection):
        if any(row.name == "tripping" for row in projected.spans):
            raise KeyError("nobody thought of this")
        return await write_batch(connection, records, projected, projection=projection)

    monkeypatch.setattr("services.projections.traces.projection.write_batch", trip)
    batch = [record([span(1, n + 1, name="tripping" if n == 1 else "good")], offset=n) for n in range(3)]
    for _ in range(ATTEMPTS - 1):
        with pytest.raises(KeyError):
            await projection.fold(*batch)
    await projection.fold(*batch)
    (letter,) = await letters(projection)
    assert (letter["offset"], letter["item"]) == (1, -1)
    assert letter["reason"] == "KeyError: 'nobody thought of this'"
    assert (await projection.progress())[0].next_offset == 3
    assert await projection.count("spans") == 2


async def test_a_dropped_partition_is_no_poison(projection) -> None:
    """Somebody removed a day's table that this process believes in."""
    await projection.fold(record([span(1, 1)], offset=0))
    await projection.pool.execute(f"DROP TABLE spans_{NOON:%Y%m%d}")
    with pytest.raises(Exception, match="partitions were missing"):
        await projection.fold(record([span(1, 2)], offset=1))
    await projection.fold(record([span(1, 2)], offset=1))
    assert (await projection.count("spans"), await projection.count("dead_letters")) == (1, 0)
