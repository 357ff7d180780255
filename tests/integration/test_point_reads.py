"""What is found by its key is planned once, perhaps when there was nothing yet, and never walks what comes later."""

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
from lodestream_proto.v1.query_pb2 import GetTraceRequest

from services.read.query.database import Database
from services.read.query.freshness import LogEnds, freshness
from services.read.query.get_trace import TraceReader
from shared.event_log.topics import SCORES, TRACES
from shared.runtime.fairness import Turns
from shared.runtime.settings import KafkaSettings, QuerySettings
from shared.storage.migrate import READER_ROLE, dsn_of_role
from shared.storage.postgres import SEARCH_PATH
from tests.integration.test_query_plans import BEGAN, MAKE_TRACES
from tests.integration.test_traces_by_score import MAKE_SCORES

DAYS, TRACES_LATER = 3, 5_000
FIRST = hashlib.md5(b"1", usedforsecurity=False).hexdigest()
TABLES = "FROM pg_stat_user_tables WHERE relname ~ '^(traces|spans|scores|projection_positions)'"
WALKS = f"SELECT relname, seq_scan {TABLES}"
ROWS_READ = f"SELECT sum(seq_tup_read + idx_tup_fetch)::int {TABLES}"
FLUSH = "SELECT pg_stat_force_next_flush()"


@pytest.fixture
async def owner(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database, server_settings={"search_path": SEARCH_PATH})
    try:
        for number in range(DAYS):
            day = BEGAN.date() + timedelta(days=number)
            await connection.execute(
                f"CREATE TABLE spans_{number} PARTITION OF spans FOR VALUES FROM ('{day}') TO ('{day + timedelta(1)}')"
            )
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def reader(database: str) -> AsyncIterator[Database]:
    """One connection of each kind: every read by a key uses the plan of the first."""
    database_reader = await Database.connect(dsn_of_role(database, READER_ROLE), QuerySettings(connections=1))
    yield database_reader
    database_reader.terminate()


async def test_a_plan_for_an_empty_table_does_not_walk_a_full_one(owner: asyncpg.Connection, reader: Database) -> None:
    traces = TraceReader(QuerySettings(), Turns())

    async def read() -> None:
        answer = await traces.get_trace(reader, "p", GetTraceRequest(trace_id=FIRST))
        assert answer.to_message().trace.name == "answer"
        await freshness(reader, LogEnds(KafkaSettings()), (TRACES, SCORES))

    async def walks() -> dict[str, int]:
        await reader.point_pool.execute(FLUSH)
        await owner.execute(FLUSH)
        return {row["relname"]: row["seq_scan"] for row in await owner.fetch(WALKS)}

    await owner.execute(MAKE_TRACES, 1, BEGAN)
    await read()
    await owner.execute(MAKE_TRACES.replace("generate_series(1,", "generate_series(2,"), TRACES_LATER, BEGAN)
    await owner.execute(MAKE_SCORES, TRACES_LATER, BEGAN)
    before, rows = await walks(), await owner.fetchval(ROWS_READ)
    await read()
    assert await walks() == before
    assert await owner.fetchval(ROWS_READ) - rows < 50
    assert {"traces", "scores", "projection_positions", "spans_0"} <= before.keys()
