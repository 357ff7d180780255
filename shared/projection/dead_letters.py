"""What a projection could not fold, kept whole with the reason, in the transaction that moves the position."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.metadata import version
from itertools import groupby

import asyncpg

from shared.event_log.codec import LogRecord

WHOLE_RECORD = -1
MOST_KEPT = 1_000
MOST_KEPT_BYTES = 64 * 1024 * 1024
"""Dead letters of one project that are kept in one partition, and their bytes. What is beyond is counted, and still in
the log: one project's bad data must not fill everybody's database."""
_MAX_REASON = 2_000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An item of a record (`item` is its index) or the record itself (WHOLE_RECORD), and why it could not be folded."""

    project_id: str
    topic: str
    partition: int
    offset: int
    item: int
    reason: str
    raw: bytes


def whole(record: LogRecord, reason: str) -> DeadLetter:
    """A record set aside as a whole; its project is empty when it is too broken to tell."""
    project_id = record.event.project_id if record.event else ""
    return DeadLetter(project_id, record.topic, record.partition, record.offset, WHOLE_RECORD, reason, record.raw)


async def set_aside(connection: asyncpg.Connection, projection: str, letters: Sequence[DeadLetter]) -> None:
    """Keep dead letters; those beyond MOST_KEPT or MOST_KEPT_BYTES of a project in a partition are only counted.

    A letter that is kept already is left as it is.
    """
    in_order = sorted(letters, key=lambda letter: (*_owner(letter), letter.offset, letter.item))
    for owner, group in groupby(in_order, _owner):
        project_id, topic, partition = owner
        key = _storable(project_id), projection, topic, partition
        count, size = await connection.fetchrow(_KEPT, *key)
        kept: list[DeadLetter] = []
        beyond: list[DeadLetter] = []
        for letter in group:
            count, size = count + 1, size + len(letter.raw)
            (kept if count <= MOST_KEPT and size <= MOST_KEPT_BYTES else beyond).append(letter)
        if kept:
            await connection.executemany(_INSERT, [_row(projection, letter) for letter in kept])
        if beyond:
            last = beyond[-1]
            await connection.execute(
                _OVERFLOW, *key, len(beyond), beyond[0].offset, last.offset, _storable(last.reason)[:_MAX_REASON]
            )


def _owner(letter: DeadLetter) -> tuple[str, str, int]:
    return letter.project_id, letter.topic, letter.partition


def _row(projection: str, letter: DeadLetter) -> tuple[object, ...]:
    return (
        _storable(letter.project_id),
        projection,
        letter.topic,
        letter.partition,
        letter.offset,
        letter.item,
        _storable(letter.reason)[:_MAX_REASON],
        letter.raw,
        code_version(),
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """A dead letter as it is kept."""

    project_id: str
    projection: str
    topic: str
    partition: int
    offset: int
    item: int
    reason: str
    code_version: str
    recorded_at: datetime
    redriven_at: datetime | None
    raw_bytes: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters are meant; None: any."""

    project_id: str | None = None
    reason: str | None = None
    """A part of it."""
    partition: int | None = None
    offset: int | None = None
    redriven: bool | None = False


async def list_letters(
    connection: asyncpg.Connection, projection: str, which: Selection, *, limit: int
) -> Sequence[Kept]:
    """Letters in the order of the log."""
    rows = await connection.fetch(f"{_LIST} LIMIT $7", projection, *_arguments(which), limit)
    return [Kept(*row) for row in rows]


async def count_letters(connection: asyncpg.Connection, projection: str, which: Selection) -> dict[str, int]:
    """How many there are, by reason, most first."""
    return {row["reason"]: row["letters"] for row in await connection.fetch(_COUNT, projection, *_arguments(which))}


@dataclass(frozen=True, slots=True)
class Overflow:
    """How many dead letters of a project in a partition are not kept: they were beyond the limit."""

    project_id: str
    topic: str
    partition: int
    letters: int
    first_offset: int
    last_offset: int
    last_reason: str
    last_recorded_at: datetime


async def list_overflow(
    connection: asyncpg.Connection, projection: str, project_id: str | None = None
) -> Sequence[Overflow]:
    """Where dead letters were not kept, the most first; of all projects, or of one."""
    return [Overflow(*row) for row in await connection.fetch(_LIST_OVERFLOW, projection, project_id)]


async def raw_of(connection: asyncpg.Connection, letter: Kept) -> bytes:
    """The bytes of a letter: an OTLP request with one span, or for a whole record the record's."""
    key = letter.project_id, letter.projection, letter.topic, letter.partition, letter.offset, letter.item
    return bytes(await connection.fetchval(_RAW, *key))


def _arguments(which: Selection) -> tuple[object, ...]:
    return which.project_id, which.reason, which.partition, which.offset, which.redriven


@cache
def code_version() -> str:
    """What folded (or failed to): the package and its version."""
    return f"lodestream-server {version('lodestream-server')}"


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")


_INSERT = """
INSERT INTO dead_letters (project_id, projection, topic, partition, "offset", item, reason, raw, code_version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT DO NOTHING
"""
_KEPT = """
SELECT count(*), coalesce(sum(length(raw)), 0)::bigint FROM dead_letters
WHERE project_id = $1 AND projection = $2 AND topic = $3 AND partition = $4 AND redriven_at IS NULL
"""
_OVERFLOW = """
INSERT INTO dead_letter_overflow AS stored
    (project_id, projection, topic, partition, letters, first_offset, last_offset, last_reason)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (project_id, projection, topic, partition) DO UPDATE SET
    letters = stored.letters + excluded.letters, first_offset = least(stored.first_offset, excluded.first_offset),
    last_offset = excluded.last_offset, last_reason = excluded.last_reason, last_recorded_at = now()
"""
_LIST_OVERFLOW = """
SELECT project_id, topic, partition, letters, first_offset, last_offset, last_reason, last_recorded_at
FROM dead_letter_overflow WHERE projection = $1 AND ($2::text IS NULL OR project_id = $2)
ORDER BY letters DESC, project_id, topic, partition LIMIT 50
"""
_SELECTED = """
FROM dead_letters
WHERE projection = $1 AND ($2::text IS NULL OR project_id = $2) AND ($3::text IS NULL OR strpos(reason, $3) > 0)
    AND ($4::integer IS NULL OR partition = $4) AND ($5::bigint IS NULL OR "offset" = $5)
    AND ($6::boolean IS NULL OR (redriven_at IS NOT NULL) = $6)
"""
_LIST = f"""
SELECT project_id, projection, topic, partition, "offset", item, reason, code_version, recorded_at, redriven_at,
    length(raw) AS raw_bytes
{_SELECTED} ORDER BY topic, partition, "offset", item
"""
_COUNT = f"SELECT reason, count(*) AS letters {_SELECTED} GROUP BY reason ORDER BY letters DESC, reason LIMIT 20"
_RAW = """
SELECT raw FROM dead_letters
WHERE project_id = $1 AND projection = $2 AND topic = $3 AND partition = $4 AND "offset" = $5 AND item = $6
"""
