"""Events of a kind that this version does not know wait, whole, for one that does: a newer gateway wrote them."""

from collections.abc import Sequence

import asyncpg
from google.protobuf.internal.wire_format import WIRETYPE_LENGTH_DELIMITED
from google.protobuf.unknown_fields import UnknownFieldSet
from lodestream_proto.v1.event_pb2 import Event

from shared.event_log.codec import LogRecord
from shared.projection.dead_letters import code_version

_FIRST_PAYLOAD = 10
"""The fields of Event from this number on are payloads."""


def is_of_unknown_kind(event: Event | None) -> bool:
    """Whether an event has a payload that this version's Event does not have."""
    if event is None or event.WhichOneof("payload") is not None:
        return False
    fields = UnknownFieldSet(event)
    return any(
        fields[number].field_number >= _FIRST_PAYLOAD and fields[number].wire_type == WIRETYPE_LENGTH_DELIMITED
        for number in range(len(fields))
    )


def split(records: Sequence[LogRecord]) -> tuple[Sequence[LogRecord], Sequence[LogRecord]]:
    """The records that this version knows, and those to be parked; each in order."""
    parked = [record for record in records if is_of_unknown_kind(record.event)]
    if not parked:
        return records, ()
    offsets = {record.offset for record in parked}
    return [record for record in records if record.offset not in offsets], parked


async def park(connection: asyncpg.Connection, projection: str, records: Sequence[LogRecord]) -> None:
    """Keep records for a later version, in the transaction that moves the position past them."""
    await connection.executemany(
        _PARK,
        [
            (
                projection,
                record.topic,
                record.partition,
                record.offset,
                record.event.project_id.replace("\0", "") if record.event else "",
                record.appended_at,
                record.raw,
                code_version(),
            )
            for record in records
        ],
    )


async def parked_partitions(pool: asyncpg.Pool, projection: str, topic: str) -> list[int]:
    """The partitions that have parked records of a projection."""
    return [row["partition"] for row in await pool.fetch(_PARTITIONS, projection, topic)]


async def read_parked(
    connection: asyncpg.Connection, projection: str, topic: str, partition: int, *, after: int, limit: int
) -> Sequence[asyncpg.Record]:
    """Parked records behind an offset, in order: offset, appended_at, raw."""
    return list(await connection.fetch(_READ, projection, topic, partition, after, limit))


async def count_parked(connection: asyncpg.Connection, projection: str) -> int:
    """How many records of a projection wait for a later version."""
    return int(await connection.fetchval(_COUNT, projection))


async def unpark(
    connection: asyncpg.Connection, projection: str, topic: str, partition: int, offsets: Sequence[int]
) -> None:
    """Forget parked records, in the transaction that folds them."""
    await connection.execute(_UNPARK, projection, topic, partition, offsets)


_PARK = """
INSERT INTO parked_records (projection, topic, partition, "offset", project_id, appended_at, raw, code_version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT DO NOTHING
"""
_PARTITIONS = """
SELECT DISTINCT partition FROM parked_records WHERE projection = $1 AND topic = $2 ORDER BY 1
"""
_COUNT = "SELECT count(*) FROM parked_records WHERE projection = $1"
_READ = """
SELECT "offset", appended_at, raw FROM parked_records
WHERE projection = $1 AND topic = $2 AND partition = $3 AND "offset" > $4 ORDER BY "offset" LIMIT $5
"""
_UNPARK = """
DELETE FROM parked_records WHERE projection = $1 AND topic = $2 AND partition = $3 AND "offset" = ANY ($4::bigint[])
"""
