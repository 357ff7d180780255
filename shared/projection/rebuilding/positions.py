"""The positions of two generations: read, begun at the log's beginning, and held still."""

from collections.abc import Mapping

import asyncpg

Offsets = dict[int, int]
"""The next offset to fold, by partition."""


async def read(connection: asyncpg.Connection, projection: str, topic: str) -> Offsets:
    """The positions of the partitions that have begun."""
    return _offsets(await connection.fetch(_READ, projection, topic))


async def begin(connection: asyncpg.Connection, projection: str, topic: str, starts: Mapping[int, int]) -> None:
    """See to it that every partition has a position; one that has none begins here."""
    rows = [(projection, topic, partition, offset) for partition, offset in sorted(starts.items())]
    await connection.executemany(_BEGIN, rows)


async def hold(connection: asyncpg.Connection, projection: str, topic: str) -> Offsets:
    """Lock the positions, so that no batch is being written until the transaction ends, and none begins.

    Raises asyncpg.LockNotAvailableError when a batch under way takes longer than the transaction's lock_timeout.
    """
    return _offsets(await connection.fetch(_HOLD, projection, topic))


def behind(these: Mapping[int, int], those: Mapping[int, int]) -> int:
    """How many offsets these positions are behind those."""
    return sum(max(0, offset - these.get(partition, 0)) for partition, offset in those.items())


def _offsets(rows: list[asyncpg.Record]) -> Offsets:
    return {row["partition"]: row["next_offset"] for row in rows}


_READ = "SELECT partition, next_offset FROM projection_positions WHERE projection = $1 AND topic = $2"
_HOLD = f"{_READ} ORDER BY partition FOR UPDATE"
_BEGIN = """
INSERT INTO projection_positions (projection, topic, partition, next_offset) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
"""
