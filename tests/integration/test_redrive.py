"""What older code could not fold is folded by newer code, and is then what it would have been in the first place."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.projections.traces.redriving import redrive
from shared.event_log.codec import LogRecord
from shared.projection.dead_letters import Selection, count_letters, list_letters
from shared.spans.blocks import ReceivedSpan, UnreadableBlockError, open_block
from shared.spans.dialects import SpanColumns, read_columns
from tests.support.projecting import Projecting, projecting
from tests.support.records import at, event, record, span

FOLD = "services.projections.traces.fold.read_columns"
OPEN = "services.projections.traces.batch.open_block"


@pytest.fixture
async def projection(database) -> AsyncIterator[Projecting]:
    async with projecting(database) as projection:
        yield projection


def old_code(source: ReceivedSpan) -> SpanColumns:
    """Trips over what newer code understands."""
    if source.span.name.startswith("new"):
        raise KeyError(source.span.name)
    return read_columns(source)


def records() -> list[LogRecord]:
    """A span that trips told alone, twice in a record, told first elsewhere and well, and told again later and well."""
    return [
        record([span(1, 1), span(1, 2, name="new")], offset=0),
        record([span(1, 3, end_ms=None)], offset=1),
        record([span(1, 3, name="new end", end_ms=20), span(1, 3, name="new end", end_ms=30)], offset=2),
        record([span(2, 4, name="new", end_ms=None), span(2, 5)], offset=3),
        record([span(2, 4, name="well")], offset=4),
    ]


async def drive(projection: Projecting) -> list[int]:
    """Redrive all; how many letters became rows, record by record."""
    async with projection.pool.acquire() as connection:
        letters = await list_letters(connection, "traces", Selection(), limit=100)
    places = dict.fromkeys((letter.partition, letter.offset) for letter in letters)
    return [len((await redrive(projection.pool, *place)).done) for place in places]


async def test_spans_become_what_they_would_have_been(projection, monkeypatch: pytest.MonkeyPatch) -> None:
    await projection.fold(*records())
    never_poisoned = await projection.dump("spans", "traces", "span_blocks")
    await projection.empty()

    monkeypatch.setattr(FOLD, old_code)
    for each in records():
        await projection.fold(each)
    assert await projection.count("dead_letters") == 4
    assert await projection.dump("spans", "traces", "span_blocks") != never_poisoned
    async with projection.pool.acquire() as connection:
        assert await count_letters(connection, "traces", Selection(reason="new end")) == {"KeyError: 'new end'": 2}

    assert sum(await drive(projection)) == 0, "the old code fails again"
    monkeypatch.setattr(FOLD, read_columns)
    assert sum(await drive(projection)) == 4
    assert await projection.dump("spans", "traces", "span_blocks") == never_poisoned
    assert await projection.pool.fetchval("SELECT count(*) FROM dead_letters WHERE redriven_at IS NULL") == 0
    assert [(await redrive(projection.pool, 0, offset)).done for offset in range(5)] == [[]] * 5, "once is enough"
    assert await projection.dump("spans", "traces", "span_blocks") == never_poisoned


async def test_a_record_becomes_what_it_would_have_been(projection, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [record([span(7, 1), span(7, 2)], offset=0), record([span(7, 1, name="again")], offset=1)]
    await projection.fold(*whole)
    never_poisoned = await projection.dump("spans", "traces", "span_blocks")
    await projection.empty()

    def closed(compression: int, block: bytes) -> object:
        raise UnreadableBlockError("compression 1 is unknown")

    monkeypatch.setattr(OPEN, closed)
    await projection.fold(*whole)
    assert (await projection.count("spans"), await projection.count("dead_letters")) == (0, 2)
    monkeypatch.setattr(OPEN, open_block)
    assert await drive(projection) == [1, 1]
    assert await projection.dump("spans", "traces", "span_blocks") == never_poisoned


async def test_what_fails_again_stays_with_the_newer_reason(projection, monkeypatch: pytest.MonkeyPatch) -> None:
    unreadable = event([span(1, 9)])
    unreadable.spans_recorded.otlp_request = b"not zstd"
    monkeypatch.setattr(FOLD, old_code)
    await projection.fold(record([span(1, 1, name="new")], offset=0), at(unreadable.SerializeToString(), offset=1))

    def newer_code(source: ReceivedSpan) -> SpanColumns:
        raise ZeroDivisionError("elsewhere")

    monkeypatch.setattr(FOLD, newer_code)
    await projection.pool.execute("UPDATE dead_letters SET reason = 'long ago' WHERE item = -1")
    assert await drive(projection) == [0, 0]
    rows = await projection.pool.fetch('SELECT reason, redriven_at FROM dead_letters ORDER BY "offset"')
    assert [row["redriven_at"] for row in rows] == [None, None]
    assert rows[0]["reason"] == "ZeroDivisionError: elsewhere"
    assert "zstd" in rows[1]["reason"]


async def test_what_the_database_refuses_again_stays_too(projection) -> None:
    await projection.pool.execute("ALTER TABLE spans ADD CONSTRAINT no_poison CHECK (name <> 'poison')")
    await projection.fold(record([span(1, 1, name="poison"), span(1, 2)], offset=0))
    assert await drive(projection) == [0]
    await projection.pool.execute("ALTER TABLE spans DROP CONSTRAINT no_poison")
    assert await drive(projection) == [1]
    assert await projection.count("spans") == 2
    assert await projection.pool.fetchval("SELECT span_count FROM traces") == 2


async def test_many_redrive_while_records_are_folded(projection, database, monkeypatch: pytest.MonkeyPatch) -> None:
    told = [record([span(n % 5, 2 * n + 1, name="new"), span(n % 5, 2 * n + 2)], offset=n) for n in range(30)]
    await projection.fold(*told, *(record([span(n, 100 + n)], offset=30 + n) for n in range(5)))
    never_poisoned = await projection.dump("spans", "traces", "span_blocks")
    await projection.empty()
    monkeypatch.setattr(FOLD, old_code)
    await projection.fold(*told)
    monkeypatch.setattr(FOLD, read_columns)
    later = [record([span(n, 100 + n)], offset=30 + n) for n in range(5)]
    outcomes = await asyncio.gather(
        drive(projection), drive(projection), *(projection.fold(each) for each in later[:1])
    )
    assert sum(outcomes[0]) + sum(outcomes[1]) == 30, "each by one of them"
    await projection.fold(*later)
    assert await projection.dump("spans", "traces", "span_blocks") == never_poisoned
