"""The tables' partitions are there before they are needed, and making them stops nobody."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import date, timedelta

import asyncpg
import pytest

from services.projections.traces.partitions import Partitions
from shared.storage.postgres import connect_pool

TODAY = date(2026, 5, 6)


@pytest.fixture
async def pool(database) -> AsyncIterator[asyncpg.Pool]:
    pool = await connect_pool(database, application="test")
    yield pool
    await pool.close()


async def days_of(pool: asyncpg.Pool, table: str) -> set[str]:
    rows = await pool.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = $1::regclass", table
    )
    return {row["name"].removeprefix("traces.").removeprefix(f"{table}_") for row in rows}


async def test_three_days_are_made_ahead_and_one_for_all_before(pool) -> None:
    await Partitions(pool).make_ahead(TODAY)
    for table in ("spans", "span_blocks"):
        assert await days_of(pool, table) == {"before", "20260506", "20260507", "20260508", "20260509"}


async def test_a_batch_gets_the_days_it_needs(pool) -> None:
    partitions = Partitions(pool)
    await partitions.make_ahead(TODAY)
    late, absurd, far = TODAY - timedelta(days=2), date(1970, 1, 1), date(2099, 1, 1)
    await partitions.ensure(start_days={TODAY, late, absurd, far}, received_days={TODAY})
    assert "20260504" in await days_of(pool, "spans")
    assert not await days_of(pool, "spans") & {"19700101", "20990101"}, "one absurd clock makes no partition"
    await insert_span(pool, absurd)
    with pytest.raises(asyncpg.CheckViolationError):
        await insert_span(pool, far)


async def test_a_log_of_last_year_is_partitioned_by_its_own_days(pool) -> None:
    """Rebuilding must not end in one huge partition."""
    partitions = Partitions(pool)
    last_year = TODAY - timedelta(days=365)
    await partitions.ensure(start_days={last_year}, received_days={last_year})
    await partitions.ensure(start_days={TODAY}, received_days={TODAY})
    assert await days_of(pool, "spans") == {"before", "20250506", "20260506"}


async def test_several_make_the_same_days_at_once(pool) -> None:
    await asyncio.gather(*(Partitions(pool).make_ahead(TODAY) for _ in range(4)))
    assert len(await days_of(pool, "spans")) == 5


async def test_the_database_is_asked_again_only_on_suspicion(pool) -> None:
    partitions = Partitions(pool)
    await partitions.make_ahead(TODAY)
    await pool.execute("DROP TABLE spans_20260506")
    await partitions.ensure(start_days={TODAY}, received_days={TODAY})
    assert "20260506" not in await days_of(pool, "spans")
    assert await partitions.restore(start_days={TODAY}, received_days={TODAY})
    assert not await partitions.restore(start_days={TODAY}, received_days={TODAY})
    assert "20260506" in await days_of(pool, "spans")


async def test_readers_and_writers_go_on_while_a_day_is_made(pool) -> None:
    partitions = Partitions(pool)
    await partitions.make_ahead(TODAY)
    async with pool.acquire() as connection, connection.transaction():
        await insert_span(connection, TODAY)
        await connection.fetch("SELECT * FROM spans")
        await asyncio.wait_for(partitions.make_ahead(TODAY + timedelta(days=1)), 3)
    assert await pool.fetchval("SELECT count(*) FROM spans") == 1


async def insert_span(connection: asyncpg.Pool | asyncpg.Connection, day: date) -> None:
    none = dict.fromkeys(("input_tokens", "output_tokens", "total_tokens", "cost_picos", "sanitized"), 0)
    block = dict.fromkeys(("block_partition", "block_offset", "block_index"), 0)
    ids = {
        "project_id": "p",
        "trace_id": r"\x01",
        "span_id": r"\x02",
        "name": "n",
        "is_root": True,
        "type": 1,
        "level": 2,
    }
    days = dict.fromkeys(("start_day", "start_at", "received_at"), str(day))
    row = json.dumps({**ids, **days, **none, **block})
    await connection.execute("INSERT INTO spans SELECT (jsonb_populate_record(NULL::spans, $1)).*", row)
