"""The rebuilt read model takes the place of the live one, in one short transaction, while everything runs on.

A batch writes while it holds its partition's position. So with all positions held, nothing is being written; what waits
finds, when it gets its turn, the other tables under the same names, and their position. Readers wait for nobody: what
they have begun to read they finish reading where they began, and prepared statements are planned anew.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg

from shared.projection.rebuilding import positions, schema
from shared.projection.rebuilding.names import TABLES_BY_PROJECTION, Generation
from shared.projection.rebuilding.positions import Offsets

_PATIENCE = "4s"
"""For batches under way. Below the live projection's own lock_timeout, so that it waits rather than fails."""


class NotReadyError(Exception):
    """It can't be done now; the message says why. Nothing was changed."""


@asynccontextmanager
async def held(connection: asyncpg.Connection, live: Generation, topic: str) -> AsyncIterator[Offsets]:
    """The live projection's positions, held still; batches wait meanwhile.

    Raises NotReadyError when a batch under way takes too long.
    """
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{_PATIENCE}'")
        try:
            offsets = await positions.hold(connection, live.projection, topic)
        except asyncpg.LockNotAvailableError:
            raise NotReadyError("a batch of the live projection takes long") from None
        yield offsets


async def swap(
    connection: asyncpg.Connection,
    *,
    live: Generation,
    successor: Generation,
    retired: Generation,
    topic: str,
    catch_up: Callable[[Offsets], Awaitable[None]] | None = None,
) -> None:
    """Make the successor live and the live one retired, of which there must be none.

    `catch_up` is given the live positions, held still, and has to bring the successor there. Without it the successor
    may be behind: the live projection folds the rest again. Raises NotReadyError.
    """
    async with held(connection, live, topic) as offsets:
        if catch_up:
            await catch_up(offsets)
        successors = await positions.hold(connection, successor.projection, topic)
        if catch_up and (missing := positions.behind(successors, offsets)):
            raise NotReadyError(f"{successor.schema} is {missing} records behind")
        if not await schema.same_steps(connection, live, successor):
            raise NotReadyError(f"{successor.schema} and {live.schema} have gone through different migrations")
        await schema.make_days(connection, live, successor)
        await connection.execute(f"DROP TABLE IF EXISTS {successor.schema}.rebuild")
        for old, new in ((live, retired), (successor, live)):
            await _rename(connection, old, new)


async def _rename(connection: asyncpg.Connection, old: Generation, new: Generation) -> None:
    await connection.execute(f"ALTER SCHEMA {old.schema} RENAME TO {new.schema}")
    await connection.execute(
        "UPDATE lodestream.migrations SET name = $2 || '/' || split_part(name, '/', 2)"
        " WHERE split_part(name, '/', 1) = $1",
        old.schema,
        new.schema,
    )
    for table in TABLES_BY_PROJECTION:
        await connection.execute(
            f"UPDATE lodestream.{table} SET projection = $2 WHERE projection = $1", old.projection, new.projection
        )
