"""A Postgres that was killed in the middle of its work starts again at once."""

import asyncio

import asyncpg

from tests.conftest import PrivateServer
from tests.support.polling import until

COUNT_FOR_LONG = "SELECT count(*) FROM generate_series(1, 10000000000)"
HOW_MANY_COUNT = "SELECT count(*) FROM pg_stat_activity WHERE query = $1 AND state = 'active'"


async def test_sessions_that_outlive_a_killed_server_do_not_keep_the_next_one_out(
    private_postgres: PrivateServer,
) -> None:
    server = await private_postgres()
    dsn = server.command.address
    busy = [await asyncpg.connect(dsn) for _ in range(4)]
    work = [asyncio.create_task(session.fetchval(COUNT_FOR_LONG)) for session in busy]
    watching = await asyncpg.connect(dsn)
    await watching.execute("CREATE TABLE kept AS SELECT 1 AS what")
    await until(lambda: has_many(watching, len(busy)), what="every session at work")
    server.kill()
    await server.restart()
    assert all(isinstance(end, Exception) for end in await asyncio.gather(*work, return_exceptions=True))
    again = await asyncpg.connect(dsn)
    assert await again.fetchval("SELECT what FROM kept") == 1
    await again.close()


async def has_many(connection: asyncpg.Connection, number: int) -> bool:
    return bool(await connection.fetchval(HOW_MANY_COUNT, COUNT_FOR_LONG) == number)
