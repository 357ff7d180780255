"""A session's row is what its traces add up to, whoever wrote them, in whatever order, at the same time or not."""

import asyncio
import random
from collections.abc import Sequence

import asyncpg
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from shared.storage.postgres import SEARCH_PATH
from tests.support.projecting import Projecting, projecting
from tests.support.records import Value, record, span
from tests.support.sessions import sessions_that_must_be

SESSION = "SELECT * FROM sessions WHERE project_id = 'p' AND session_id = $1"


def told(trace: int, number: int, session: str | None = None, user: str | None = None, **options) -> Span:
    attributes: dict[str, Value] = {"openinference.span.kind": "LLM", "llm.token_count.prompt": 10 * number}
    attributes |= {"session.id": session} if session else {}
    attributes |= {"user.id": user} if user else {}
    return span(trace, number, attributes=attributes, **options)


async def session(projection: Projecting, session_id: str) -> asyncpg.Record | None:
    return await projection.pool.fetchrow(SESSION, session_id)


async def agree(projection: Projecting) -> Sequence[str]:
    rows = (await projection.dump("sessions"))["sessions"]
    assert rows == await sessions_that_must_be(projection.pool)
    return rows


async def test_a_trace_moves_to_the_session_its_root_tells(database) -> None:
    async with projecting(database) as projection:
        await projection.fold(record([told(1, 2, "a", "bob", parent=1), told(2, 5, "a", "eve")], offset=0))
        before = await session(projection, "a")
        assert before is not None
        assert (before["trace_count"], before["input_tokens"], before["user_ids"]) == (2, 70, ["bob", "eve"])
        await projection.fold(record([told(1, 1, "b", "ada", start_ms=-5)], offset=1))
        after, moved_to = await session(projection, "a"), await session(projection, "b")
        assert after is not None
        assert moved_to is not None
        assert (after["trace_count"], after["input_tokens"], after["user_ids"]) == (1, 50, ["eve"])
        assert (moved_to["trace_count"], moved_to["input_tokens"], moved_to["user_ids"]) == (1, 30, ["ada"])
        await projection.fold(record([told(2, 1, "b", start_ms=-5), told(2, 5, "a", "eve", parent=1)], offset=2))
        assert await session(projection, "a") is None
        assert len(await agree(projection)) == 1


async def test_a_span_that_is_corrected_is_counted_once(database) -> None:
    async with projecting(database) as projection:
        failed = told(1, 1, "a", end_ms=90)
        failed.status.code = Status.STATUS_CODE_ERROR
        for offset, telling in enumerate([told(1, 1, "a", end_ms=None), failed, told(1, 1, "a", end_ms=95), failed]):
            await projection.fold(record([telling, told(offset + 2, 1, "a")], offset=offset))
            await agree(projection)
        found = await session(projection, "a")
        assert found is not None
        assert (found["trace_count"], found["error_count"], found["input_tokens"]) == (5, 1, 50)


async def test_a_session_names_the_first_hundred_of_its_users(database) -> None:
    async with projecting(database) as projection:
        everybody = [told(n + 1, 1, "a", f"user-{n:03}") for n in range(150)]
        for offset, spans in enumerate((everybody[90:], everybody[:90])):
            await projection.fold(record(spans, offset=offset))
            await agree(projection)
        found = await session(projection, "a")
        assert found is not None
        assert found["user_ids"] == [f"user-{n:03}" for n in range(100)]


async def test_writers_at_the_same_time_lose_nothing(database) -> None:
    """Partitions are folded at once, by two processes, in sessions and traces that all of them share."""
    choose = random.Random(5)

    def spans() -> list[Span]:
        return [
            told(
                choose.randint(1, 60),
                choose.randint(1, 4),
                choose.choice(["a", "b", "c", None]),
                choose.choice(["x", "y", None]),
                parent=choose.choice([None, 1]),
                end_ms=choose.choice([None, 40, 60]),
            )
            for _ in range(6)
        ]

    async def fold(projection: Projecting, partition: int) -> None:
        for offset in range(12):
            await projection.fold(record(spans(), partition=partition, offset=offset))

    async with projecting(database) as one, projecting(database) as other:
        await asyncio.gather(*(fold((one, other)[partition % 2], partition) for partition in range(8)))
        assert len(await agree(one)) == 3


async def test_traces_that_are_removed_leave_their_session(database) -> None:
    async with projecting(database) as projection:
        await projection.fold(record([told(n, 1, "a" if n < 3 else "b") for n in (1, 2, 3)]))
        connection = await asyncpg.connect(database, server_settings={"search_path": SEARCH_PATH})
        try:
            await connection.execute("DELETE FROM traces WHERE trace_id = ANY($1)", [(n).to_bytes(16) for n in (2, 3)])
            assert len(await agree(projection)) == 1
            await connection.execute("TRUNCATE traces")
            assert await agree(projection) == []
        finally:
            await connection.close()
