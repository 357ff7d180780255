"""A trace or a session of any size costs its own project something, and the others nothing."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from services.projections.traces import merge
from services.projections.traces.copy_format import TRACE_COLUMNS
from services.projections.traces.summary import grain_bits
from tests.support.projecting import projecting
from tests.support.records import record, span
from tests.support.sessions import sessions_that_must_be

COLUMNS = ", ".join(TRACE_COLUMNS)


def apart(begin: int, end: int, *, session: str | None = None) -> list[Span]:
    """Spans of one trace that do not touch one another, with a pause after each fifty."""
    attributes = {"openinference.span.kind": "TOOL", **({"session.id": session} if session else {})}
    starts = {n: 10 * n + 1_000 * (n // 50) for n in range(begin, end)}
    return [span(1, n, parent=1, start_ms=at, end_ms=at + 5, attributes=attributes) for n, at in starts.items()]


async def test_the_summary_of_a_huge_trace_is_bounded_and_the_same_in_any_order(database) -> None:
    cuts = (2, 700, 1_300, 2_600)
    parts = [apart(begin, end) for begin, end in pairwise(cuts)]
    dumps = []
    async with projecting(database) as projection:
        for order in ((0, 1, 2), (2, 0, 1)):
            for part in order:  # as it is told, in what offsets, is the same; only the order differs
                await projection.fold(record(parts[part], partition=part, offset=0))
            dumps.append(await projection.dump("traces"))
            await projection.empty()
        await projection.fold(*(record(part, partition=n, offset=0) for n, part in enumerate(parts)))
        dumps.append(await projection.dump("traces"))
        counts = "SELECT span_count, (SELECT count(*) FROM unnest(tool_busy)) FROM traces"
        spans, intervals = await projection.pool.fetchrow(counts)
        assert dumps[0] == dumps[1] == dumps[2]
        assert (spans, intervals) == (2_598, 52), "where there is a pause, and no more"
        grain = await projection.pool.fetchrow(
            "SELECT grain_bits(span_count, start_at, end_at), latency_us FROM traces"
        )
        assert tuple(grain) == (grain_bits(spans, 0, grain["latency_us"]), grain["latency_us"])
        await merge_anew(projection)
        assert await projection.dump("traces") == dumps[0], "as the rows of its spans say"


async def merge_anew(projection) -> None:
    async with projection.pool.acquire() as connection, connection.transaction():
        for row in await connection.fetch("SELECT project_id, trace_id FROM traces"):
            await merge._sum_up_anew(connection, row["project_id"], row["trace_id"])


async def test_a_span_that_ends_is_added_without_reading_its_trace(database, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(numbers: Sequence[int]) -> list[Span]:
        return [span(1, n, parent=1, start_ms=n, end_ms=None) for n in numbers]

    def ended(numbers: Sequence[int]) -> list[Span]:
        return [span(1, n, parent=1, start_ms=n, end_ms=n + 9, attributes={"user.id": "ada"}) for n in numbers]

    async with projecting(database) as projection:
        await projection.fold(record([span(1, 1, end_ms=None), *started(range(2, 50))], offset=0))
        with monkeypatch.context() as patch:
            patch.delattr(merge, "_sum_up_anew")
            await projection.fold(record([span(1, 1, name="root", end_ms=80), *ended(range(2, 30))], offset=1))
        kept = await projection.dump("traces")
        await merge_anew(projection)
        assert await projection.dump("traces") == kept
        assert await projection.pool.fetchval("SELECT root_name FROM traces") == "root"


async def test_a_trace_that_leaves_a_large_session_is_looked_up_and_the_others_are_not_read(database) -> None:
    async with projecting(database) as projection:
        await projection.fold(record([span(1, 1, attributes={"session.id": "s", "user.id": "zoe"})], offset=0))
        copies = COLUMNS.replace("trace_id", "decode(md5(n::text), 'hex')", 1)
        await projection.pool.execute(
            f"INSERT INTO traces ({COLUMNS}) SELECT {copies} FROM traces, generate_series(1, 3000) AS n"
        )
        await projection.pool.execute("ANALYZE traces")
        async with projection.pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL enable_seqscan = off")
            for change in (
                "root_user_id = 'ada'",
                "root_user_id = 'eve'",
                "last_start_at = last_start_at - '1 s'::interval",
            ):
                await connection.execute(f"UPDATE traces SET {change} WHERE trace_id = $1", (1).to_bytes(16, "big"))
            read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relid = 'traces'::regclass"
            assert await connection.fetchval(read) < 200
        rows = (await projection.dump("sessions"))["sessions"]
        assert rows == await sessions_that_must_be(projection.pool)
        assert '"user_ids": ["eve", "zoe"]' in rows[0]


async def test_sessions_of_one_project_do_not_wait_for_those_of_another(database) -> None:
    async with projecting(database) as projection:
        for project, partition in (("p", 0), ("q", 1)):
            await projection.fold(record(apart(2, 4, session="s"), project=project, partition=partition, offset=0))
        async with projection.pool.acquire() as connection, connection.transaction():
            await connection.execute("UPDATE traces SET level = 4 WHERE project_id = 'p'")
            async with asyncio.timeout(20):
                await projection.fold(record(apart(4, 6, session="s"), project="q", partition=1, offset=1))
        assert await projection.pool.fetchval("SELECT sum(trace_count) FROM sessions") == 2
