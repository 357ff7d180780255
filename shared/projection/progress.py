"""The fence: rows and the consumed position change in one transaction, so every record counts once.

`python -m shared.projection.progress` shows how far each projection has come; `--resume traces:3` lets a halted
partition go on, with `--set-aside` past what it was halted by.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from datetime import datetime

import asyncpg

from shared.event_log.codec import LogRecord
from shared.runtime.settings import PostgresSettings
from shared.storage.postgres import SEARCH_PATH


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a projection has come in one partition."""

    next_offset: int
    last_record_at: datetime | None = None
    halted_reason: str | None = None
    halted_until: int | None = None
    """Behind the last record of the batch that halted the partition."""
    set_aside_until: int | None = None
    """Below this offset an operator lets everything that can't be folded become dead letters."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a projection has come in one partition of the log, as operators see it."""

    projection: str
    topic: str
    partition: int
    next_offset: int
    last_record_at: datetime | None
    halted_reason: str | None


class HaltError(Exception):
    """The partition must stop here until somebody decides; the message is the reason."""


class SkippedError(Exception):
    """Records between the position and the batch were not handed over: read again from `next_offset`."""

    def __init__(self, next_offset: int) -> None:
        super().__init__(f"the batch does not begin at offset {next_offset}")
        self.next_offset = next_offset


@dataclass(frozen=True, slots=True)
class Fenced:
    """An open transaction that holds the partition's position, and the records that are not folded yet."""

    connection: asyncpg.Connection
    fresh: Sequence[LogRecord]
    set_aside_until: int = 0
    """Below this offset nothing halts the partition."""


async def read_progress(pool: asyncpg.Pool, projection: str, topic: str) -> dict[int, Progress]:
    """The progress of each partition that has begun."""
    rows = await pool.fetch(_READ, projection, topic)
    return {row["partition"]: _progress(row) for row in rows}


async def list_positions(connection: asyncpg.Connection) -> Sequence[Position]:
    """Of all projections, rebuilt ones too, in order."""
    return [Position(*(row[field.name] for field in fields(Position))) for row in await connection.fetch(_SHOW)]


@asynccontextmanager
async def fence(
    pool: asyncpg.Pool, projection: str, run: Sequence[LogRecord], *, hole_at: int | None = None
) -> AsyncIterator[Fenced]:
    """One transaction for records of one partition, in order: what is written in it commits with the raised position.

    Records below the position are dropped: a redelivery, or a zombie's late batch. The log may have holes; but a batch
    that begins after the position raises SkippedError, unless reading from there (`hole_at`) has shown that there is
    nothing.
    Raises HaltError when the partition is halted, and when the log is not the one that was folded.
    """
    topic, partition = run[0].topic, run[0].partition
    async with pool.acquire() as connection, connection.transaction():
        progress = await _lock(connection, projection, topic, partition)
        if progress.halted_reason:
            raise HaltError(progress.halted_reason)
        fresh = [record for record in run if record.offset >= progress.next_offset]
        _refuse_another_log(progress, run[: len(run) - len(fresh)])
        if fresh and progress.next_offset not in (fresh[0].offset, hole_at):
            raise SkippedError(progress.next_offset)
        if fresh:  # first, so that the commit follows what is written: others may wait for locks of that
            last = max(record.appended_at for record in fresh)
            await connection.execute(_ADVANCE, projection, topic, partition, fresh[-1].offset + 1, last)
        yield Fenced(connection, fresh, progress.set_aside_until or 0)


@asynccontextmanager
async def held(pool: asyncpg.Pool, projection: str, topic: str, partition: int) -> AsyncIterator[asyncpg.Connection]:
    """A transaction in which the partition's position stands still; batches of the partition wait for its end."""
    async with pool.acquire() as connection, connection.transaction():
        await _lock(connection, projection, topic, partition)
        yield connection


async def halt(
    pool: asyncpg.Pool, projection: str, topic: str, partition: int, reason: str, *, until: int | None = None
) -> int:
    """Write down that a partition stops, and why; the position stays, and is returned.

    `until` is behind the last record of the batch that could not be folded, where one is the reason.
    """
    return int(await pool.fetchval(_HALT, projection, topic, partition, reason, until))


async def resume(
    connection: asyncpg.Connection,
    projection: str,
    partition: int | None = None,
    *,
    set_aside: bool = False,
    until: int | None = None,
) -> list[int]:
    """Let halted partitions of a projection (or one) go on from their positions; returns which.

    Args:
        connection: To the database of the read models.
        projection: Its name, as in `projection_positions`.
        partition: Only this one; None: all that are halted.
        set_aside: Let what can't be folded become dead letters, however much it is, through the batch that halted the
            partition. Without it a partition halts again when nothing has changed.
        until: With `set_aside`, up to this offset (exclusive) instead.
    """
    rows = await connection.fetch(_RESUME, projection, partition, set_aside, until)
    return [row["partition"] for row in rows]


async def _lock(connection: asyncpg.Connection, projection: str, topic: str, partition: int) -> Progress:
    row = await connection.fetchrow(_LOCK, projection, topic, partition)
    if row is None:
        await connection.execute(_BEGIN, projection, topic, partition)
        row = await connection.fetchrow(_LOCK, projection, topic, partition)
    return _progress(row)


def _progress(row: asyncpg.Record) -> Progress:
    return Progress(*(row[field.name] for field in fields(Progress)))


def _refuse_another_log(progress: Progress, below: Sequence[LogRecord]) -> None:
    """Nothing below the position can be younger than what was folded last, unless the log was made anew."""
    for record in below:
        if progress.last_record_at and record.appended_at > progress.last_record_at:
            raise HaltError(
                f"the log was replaced: the record at offset {record.offset} is younger than the last one folded, "
                f"and the position is {progress.next_offset}"
            )


_COLUMNS = "next_offset, last_record_at, halted_reason, halted_until, set_aside_until"
_READ = f"SELECT partition, {_COLUMNS} FROM projection_positions WHERE projection = $1 AND topic = $2"
_LOCK = (
    f"SELECT {_COLUMNS} FROM projection_positions WHERE projection = $1 AND topic = $2 AND partition = $3 FOR UPDATE"
)
_BEGIN = """
INSERT INTO projection_positions (projection, topic, partition, next_offset) VALUES ($1, $2, $3, 0)
ON CONFLICT DO NOTHING
"""
_ADVANCE = """
UPDATE projection_positions SET next_offset = $4, last_record_at = greatest(last_record_at, $5)
WHERE projection = $1 AND topic = $2 AND partition = $3
"""
_HALT = """
INSERT INTO projection_positions AS stored (projection, topic, partition, next_offset, halted_reason, halted_until)
VALUES ($1, $2, $3, 0, $4, $5)
ON CONFLICT (projection, topic, partition) DO UPDATE SET
    halted_reason = coalesce(stored.halted_reason, $4), halted_until = coalesce(stored.halted_until, $5)
RETURNING next_offset
"""
_RESUME = """
UPDATE projection_positions SET halted_reason = NULL, halted_until = NULL,
    set_aside_until = CASE WHEN $3 THEN coalesce($4::bigint, halted_until, set_aside_until) ELSE set_aside_until END
WHERE projection = $1 AND halted_reason IS NOT NULL AND ($2::integer IS NULL OR partition = $2)
RETURNING partition
"""
_SHOW = f"SELECT projection, topic, partition, {_COLUMNS} FROM projection_positions ORDER BY 1, 2, 3"


async def _show_or_resume(dsn: str, target: str | None, *, set_aside: bool, until: int | None) -> None:
    connection = await asyncpg.connect(dsn, timeout=10, server_settings={"search_path": SEARCH_PATH})
    try:
        if target:
            projection, _, partition = target.partition(":")
            number = int(partition) if partition else None
            resumed = await resume(connection, projection, number, set_aside=set_aside, until=until)
            print(f"resumed {projection}: {sorted(resumed) or 'nothing was halted'}")  # noqa: T201
            if resumed and set_aside:
                print(  # noqa: T201
                    f"WARNING: what can't be folded up to {until or 'the end of the batch that halted each partition'} "
                    "becomes dead letters and is NOT in the read model; see `lodestream dead-letters list`",
                    file=sys.stderr,
                )
        for row in await connection.fetch(_SHOW):
            state = row["halted_reason"] or "reading"
            if row["set_aside_until"] and row["set_aside_until"] > row["next_offset"]:
                state += f"; sets aside what can't be folded up to {row['set_aside_until']}"
            print(f"{row['projection']}  {row['topic']}:{row['partition']}  next {row['next_offset']}  {state}")  # noqa: T201
    finally:
        await connection.close()


def main() -> None:
    """Show the positions, or let a halted partition go on."""
    parser = argparse.ArgumentParser(prog="python -m shared.projection.progress", description=main.__doc__)
    parser.add_argument("--resume", metavar="PROJECTION[:PARTITION]", help="let it go on from its position")
    parser.add_argument(
        "--set-aside",
        metavar="OFFSET",
        nargs="?",
        type=int,
        const=-1,
        help="with --resume: let what can't be folded become dead letters, through the batch that halted the partition "
        "or up to OFFSET, instead of halting again",
    )
    arguments = parser.parse_args()
    if arguments.set_aside is not None and not arguments.resume:
        parser.error("--set-aside goes with --resume")
    until = arguments.set_aside if arguments.set_aside is not None and arguments.set_aside >= 0 else None
    asyncio.run(
        _show_or_resume(
            PostgresSettings().dsn, arguments.resume, set_aside=arguments.set_aside is not None, until=until
        )
    )


if __name__ == "__main__":
    main()
