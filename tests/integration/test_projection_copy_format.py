"""Rows packed by hand come back from Postgres as they were."""

from datetime import UTC, date, datetime

import asyncpg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.projections.traces import copy_format
from services.projections.traces.copy_format import copy_data, pack_block, pack_span
from services.projections.traces.merge import span_row
from services.projections.traces.rows import BlockRow, SpanRef, SpanRow
from services.projections.traces.tables import SQL
from shared.storage.postgres import SEARCH_PATH, load_sql

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
INT8 = st.integers(-(2**63), 2**63 - 1)
MOMENT = st.integers(0, 253_402_300_799_999_999)
COUNTS = st.dictionaries(TEXT, INT8, max_size=3)
PARTS = st.lists(
    st.builds(SpanRef, MOMENT, st.integers(0, 11), st.integers(0, 2**60), st.integers(0, 10**6)), min_size=1, max_size=4
)
ROWS = st.builds(
    SpanRow,
    project_id=TEXT.filter(bool),
    start_day=st.dates(date(1970, 1, 1)),
    trace_id=st.binary(min_size=16, max_size=16),
    span_id=st.binary(min_size=8, max_size=8),
    parent_span_id=st.none() | st.binary(min_size=8, max_size=8),
    is_root=st.booleans(),
    name=TEXT,
    type=st.integers(0, 10),
    level=st.integers(0, 4),
    status_message=st.none() | TEXT,
    start_at_us=MOMENT,
    end_at_us=st.none() | MOMENT,
    first_token_us=st.none() | INT8,
    usage=st.none() | COUNTS,
    cost=st.none() | COUNTS,
    input_tokens=INT8,
    output_tokens=INT8,
    total_tokens=INT8,
    cost_picos=INT8,
    prompt_version=st.none() | st.integers(-(2**31), 2**31 - 1),
    tags=st.none() | st.lists(TEXT, max_size=3),
    sanitized=st.integers(0, 2**15 - 1),
    parts=PARTS.map(lambda parts: tuple(sorted(parts))),
    **{
        name: st.none() | TEXT
        for name in (
            "model", "provider", "prompt_name", "trace_name", "user_id", "session_id", "environment", "release",
            "version", "sdk", "input_preview", "output_preview",
        )
    },
)  # fmt: skip


def key(row: SpanRow) -> tuple[str, bytes, bytes]:
    return row.project_id, row.trace_id, row.span_id


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROWS, min_size=1, max_size=5, unique_by=key))
async def test_a_span_comes_back_as_it_was(database, rows: list[SpanRow]) -> None:
    connection = await asyncpg.connect(database, server_settings={"search_path": SEARCH_PATH, "timezone": "UTC"})
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS spans_always PARTITION OF spans DEFAULT; TRUNCATE spans")
        data = copy_data(map(pack_span, rows))
        await connection.copy_to_table("spans", source=data, columns=copy_format.SPAN_COLUMNS, format="binary")
        traces = {(row.project_id, row.trace_id) for row in rows}
        read_spans = load_sql(SQL / "read_spans.sql")
        found = [row for trace in traces for row in await connection.fetch(read_spans, *trace)]
        assert sorted(map(span_row, found), key=key) == sorted(rows, key=key)
    finally:
        await connection.close()


async def test_a_record_comes_back_as_it_was(database) -> None:
    connection = await asyncpg.connect(database, server_settings={"search_path": SEARCH_PATH, "timezone": "UTC"})
    try:
        await connection.execute("CREATE TABLE span_blocks_always PARTITION OF span_blocks DEFAULT")
        received_at = datetime(2026, 5, 6, 23, 59, 59, 999_999, tzinfo=UTC)
        row = BlockRow("p", 11, 2**40, received_at, "sdk", "1.2", 2, 100, bytes(range(256)) * 9)
        await connection.copy_to_table(
            "span_blocks", source=copy_data([pack_block(row)]), columns=copy_format.BLOCK_COLUMNS, format="binary"
        )
        record = await connection.fetchrow("SELECT * FROM span_blocks")
        assert record["received_day"] == received_at.date()
        assert BlockRow(**{name: record[name] for name in BlockRow.__slots__}) == row
    finally:
        await connection.close()


async def test_every_column_is_written(database) -> None:
    connection = await asyncpg.connect(database)
    try:
        for table, columns in (
            ("spans", copy_format.SPAN_COLUMNS),
            ("span_blocks", copy_format.BLOCK_COLUMNS),
            ("traces", copy_format.TRACE_COLUMNS),
        ):
            rows = await connection.fetch(
                "SELECT column_name FROM information_schema.columns"
                " WHERE table_schema = 'traces' AND table_name = $1 AND is_generated = 'NEVER'",
                table,
            )
            assert {row["column_name"] for row in rows} - {"changed_by"} == set(columns), table
    finally:
        await connection.close()
