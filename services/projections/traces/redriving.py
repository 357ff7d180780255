"""`redrive`: what could not be folded, folded again by today's code, in its place in the log.

One transaction a record, under the lock of its partition's position: the live projection and a swap wait for it, and it
for them. What folds now becomes rows and its letters are marked; what fails again keeps its letter, with the newer
reason. The bytes are the letter's own for a whole record, and those of the record's block for a span.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import NoReturn

import asyncpg

from services.projections.traces.batch import fold_records, sources_in
from services.projections.traces.copy_format import microseconds
from services.projections.traces.fold import SpanRevision, fold, read_revision
from services.projections.traces.merge import merge_spans
from services.projections.traces.partitions import Partitions
from services.projections.traces.projection import days_of, write_batch
from services.projections.traces.rows import BlockKey, BlockRow, SpanKey, SpanRef, SpanRow
from services.projections.traces.tables import NAME, prepare_connection
from shared.event_log.codec import read
from shared.event_log.topics import TRACES
from shared.projection.dead_letters import WHOLE_RECORD, Selection, code_version, list_letters
from shared.projection.rebuilding.command import run_and_exit
from shared.projection.rebuilding.events import tell
from shared.projection.refused import write_or_bisect
from shared.runtime.memory import raise_if_out_of_memory
from shared.runtime.settings import PostgresSettings
from shared.storage.postgres import connect_pool

_AT_MOST = 100_000
"""Letters of one run."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of a record's letters: how many are rows now, and why the others, by item, are not."""

    done: Sequence[int]
    failed: Mapping[int, str]


async def redrive(pool: asyncpg.Pool, partition: int, offset: int) -> Redriven:
    """Fold the letters of one record again. Once more does no harm."""
    partitions = Partitions(pool)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_HOLD, NAME, TRACES, partition)
        letters = {
            row["item"]: (row["project_id"], bytes(row["raw"]))
            for row in await connection.fetch(_LETTERS, NAME, TRACES, partition, offset)
        }
        if WHOLE_RECORD in letters:
            result = await _record(connection, partitions, partition, offset, letters[WHOLE_RECORD][1])
        elif letters:
            (project_id,) = {project_id for project_id, _ in letters.values()}
            result = await _spans(connection, partitions, (project_id, partition, offset), sorted(letters))
        else:
            result = Redriven([], {})
        await connection.execute(_MARK, NAME, TRACES, partition, offset, list(result.done))
        for item, reason in result.failed.items():
            await connection.execute(_AGAIN, NAME, TRACES, partition, offset, item, reason, code_version())
    return result


async def _record(
    connection: asyncpg.Connection, partitions: Partitions, partition: int, offset: int, raw: bytes
) -> Redriven:
    """A record that was set aside as a whole; spans of it that fail become letters of their own."""
    record = read(TRACES, partition, offset, int(datetime.now(UTC).timestamp() * 1000), raw)
    received_at = record.event.received_at.ToDatetime(tzinfo=UTC) if record.event else record.appended_at
    if record.event is not None and (not record.event.HasField("received_at") or received_at > record.appended_at):
        # What holds then depends on when the log had it, which a dead letter does not tell.
        return Redriven([], {WHOLE_RECORD: "the record does not say when it was received: only a rebuild can fold it"})
    folded = fold_records([record])
    await partitions.ensure(**days_of(folded))
    letters = await write_batch(connection, [record], folded)
    whole = next((letter.reason for letter in letters if letter.item == WHOLE_RECORD), None)
    return Redriven([], {WHOLE_RECORD: whole}) if whole else Redriven([WHOLE_RECORD], {})


async def _spans(
    connection: asyncpg.Connection, partitions: Partitions, key: BlockKey, items: Sequence[int]
) -> Redriven:
    """Spans of a record whose others are rows already."""
    stored = await connection.fetchrow(_BLOCK, *key)
    if stored is None:
        return Redriven([], dict.fromkeys(items, "the record is not in span_blocks any more"))
    block = BlockRow(**dict(stored))
    rows, failed = _folded(block, items)
    days = {"start_days": {row.start_day for row in rows}, "received_days": {block.received_at.date()}}
    await partitions.ensure(**days)
    for refused, reason in await write_or_bisect(connection, rows, partial(merge_spans, connection)):
        failed |= {ref.span_index: reason for ref in refused.parts}
    return Redriven([item for item in items if item not in failed], failed)


def _folded(block: BlockRow, items: Sequence[int]) -> tuple[list[SpanRow], dict[int, str]]:
    """The rows of these spans, a row a span, and why others have none."""
    sources, received_at_us = sources_in(block), microseconds(block.received_at)
    revisions_by_key: dict[SpanKey, list[SpanRevision]] = {}
    rows: list[SpanRow] = []
    failed: dict[int, str] = {}
    for item in items:
        try:
            revision = read_revision(SpanRef(received_at_us, block.partition, block.offset, item), sources[item])
            revisions_by_key.setdefault(revision.key(block.project_id), []).append(revision)
        except Exception as error:
            raise_if_out_of_memory(error)
            failed[item] = _reason(error)
    for key, revisions in revisions_by_key.items():
        try:
            rows.append(fold(key, revisions))
        except Exception as error:
            raise_if_out_of_memory(error)
            failed |= {each.ref.span_index: _reason(error) for each in revisions}
    return rows, failed


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def main(arguments: Sequence[str]) -> NoReturn:
    """Exits with 0: all are rows now; 1: some failed again."""
    parser = argparse.ArgumentParser(
        prog="python -m services.projections.traces redrive",
        description="Fold dead letters again; all of them, or those that are selected.",
    )
    parser.add_argument("--project")
    parser.add_argument("--reason", help="a part of the reason")
    parser.add_argument("--position", metavar="PARTITION[:OFFSET]")
    options = parser.parse_args(arguments)
    partition, _, offset = (options.position or "").partition(":")
    which = Selection(
        project_id=options.project,
        reason=options.reason,
        partition=int(partition) if partition else None,
        offset=int(offset) if offset else None,
    )
    run_and_exit("redrive-traces", lambda: _redrive(which))


async def _redrive(which: Selection) -> int:
    pool = await connect_pool(
        PostgresSettings().dsn, application="redrive-traces", init=prepare_connection, command_timeout=120
    )
    try:
        async with pool.acquire() as connection:
            letters = await list_letters(connection, NAME, which, limit=_AT_MOST)
        done = failed = 0
        for partition, offset in dict.fromkeys((letter.partition, letter.offset) for letter in letters):
            result = await redrive(pool, partition, offset)
            done, failed = done + len(result.done), failed + len(result.failed)
            tell(
                "redriven",
                position=f"{TRACES}:{partition}:{offset}",
                redriven=len(result.done),
                failed=len(result.failed),
                reasons=list(dict.fromkeys(result.failed.values())),
            )
        tell("redriven_all", redriven=done, failed=failed)
    finally:
        await pool.close()
    return 1 if failed else 0


_HOLD = """
SELECT FROM projection_positions WHERE projection = $1 AND topic = $2 AND partition = $3 FOR UPDATE
"""
_OF_RECORD = 'projection = $1 AND topic = $2 AND partition = $3 AND "offset" = $4 AND redriven_at IS NULL'
_LETTERS = f"SELECT project_id, item, raw FROM dead_letters WHERE {_OF_RECORD} ORDER BY item FOR UPDATE"
_MARK = f"UPDATE dead_letters SET redriven_at = now() WHERE {_OF_RECORD} AND item = ANY ($5::integer[])"
_AGAIN = f"UPDATE dead_letters SET reason = $6, code_version = $7 WHERE {_OF_RECORD} AND item = $5"
_BLOCK = """
SELECT project_id, partition, "offset", received_at, sdk_name, sdk_version, compression, span_count, otlp_request
FROM span_blocks WHERE project_id = $1 AND partition = $2 AND "offset" = $3
"""
