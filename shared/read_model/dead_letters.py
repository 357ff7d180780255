"""What a projection could not fold, kept whole with the reason, in the transaction that moves the position."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

import asyncpg

from shared.event_log.codec import Recorded

WHOLE_RECORD = -1
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


def whole(record: Recorded, reason: str) -> DeadLetter:
    """A record set aside as a whole; its project is empty when it is too broken to tell."""
    project_id = record.event.project_id if record.event else ""
    return DeadLetter(project_id, record.topic, record.partition, record.offset, WHOLE_RECORD, reason, record.raw)


async def set_aside(connection: asyncpg.Connection, projection: str, letters: Sequence[DeadLetter]) -> None:
    """Write dead letters. Again does no harm."""
    await connection.executemany(
        _INSERT,
        [
            (
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
            for letter in letters
        ],
    )


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
