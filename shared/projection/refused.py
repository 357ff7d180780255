"""What the database refuses as data costs only itself: a batch is halved until the row is found."""

import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import asyncpg

REFUSED = (
    asyncpg.DataError,  # class 22, and what asyncpg itself can't encode
    asyncpg.CheckViolationError,
    asyncpg.ProgramLimitExceededError,  # class 54
    ValueError,
    OverflowError,
    TypeError,
    struct.error,
)
"""Errors of the data: the same rows will fail again. Everything else may pass, and is tried again."""

Row = TypeVar("Row")


async def write_or_bisect(
    connection: asyncpg.Connection, rows: Sequence[Row], write: Callable[[Sequence[Row]], Awaitable[object]]
) -> list[tuple[Row, str]]:
    """Write rows, and return those that the database refuses, with the reason; the others are written."""
    if not rows:
        return []
    try:
        async with connection.transaction():
            await write(rows)
    except REFUSED as error:
        if len(rows) == 1:
            return [(rows[0], f"{type(error).__name__}: {error}")]
    else:
        return []
    middle = len(rows) // 2
    refused = await write_or_bisect(connection, rows[:middle], write)
    return refused + await write_or_bisect(connection, rows[middle:], write)
