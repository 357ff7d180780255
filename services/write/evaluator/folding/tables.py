"""Runs and results into the tables, in the fence's transaction; said again, nothing changes."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import asyncpg
from lodestream_proto.v1.experiments_pb2 import EXPERIMENT_STATE_PAUSED, EXPERIMENT_STATE_RUNNING

from services.write.evaluator.fold import Asked, Result, Run, Turn
from shared.read_model.postgres import load_sql

WAKE = "lodestream_evaluator"
"""Notified when there may be something to do, or to stop doing."""

_SQL = Path(__file__).parents[1] / "sql"
_INSERT_RUN = load_sql(_SQL / "insert_run.sql")
_LOCK_RESULTS = load_sql(_SQL / "lock_results.sql")
_KEEP_RESULTS = load_sql(_SQL / "keep_results.sql")
_SPEND = load_sql(_SQL / "spend.sql")
_PAUSE_OR_RESUME = load_sql(_SQL / "pause_or_resume.sql")
_END = load_sql(_SQL / "end_run.sql")
_READ_ASKED_AT = load_sql(_SQL / "read_asked_at.sql")
_LOOK_AT = load_sql(_SQL / "look_at.sql")
_DECIDED = 2


async def keep_asked(connection: asyncpg.Connection, asked: Sequence[Asked]) -> None:
    """Insert runs; the first of a run id holds."""
    await connection.executemany(_INSERT_RUN, [
        (
            *each.run, each.request, EXPERIMENT_STATE_RUNNING, each.at, each.record.partition, each.record.offset,
            each.provider, each.providers, each.max_concurrency, each.ends_by, each.max_picodollars, each.outcome,
            each.reason,
        )
        for each in asked
    ])  # fmt: skip


async def keep_results(connection: asyncpg.Connection, results: Sequence[Result]) -> None:
    """Mark jobs as done that the log has a result of, planned or not; what was not decided here is spent now."""
    requests = await connection.fetch(_READ_ASKED_AT, *_columns({each.run for each in results}))
    asked_at = {(row["project_id"], row["run_id"]): row["asked_at"] for row in requests}
    first = {
        (*each.run, each.item_id, each.repetition): each
        for each in reversed(results)
        if asked_at.get(each.run, each.record.offset) < each.record.offset
    }
    if not first:
        return
    columns = _columns(set(first))
    known = {tuple(row)[:4]: row["state"] for row in await connection.fetch(_LOCK_RESULTS, *columns)}
    await connection.execute(_KEEP_RESULTS, *columns)
    spent: dict[Run, int] = defaultdict(int)
    for key, each in first.items():
        if known.get(key, 0) < _DECIDED:
            spent[each.run] += each.picodollars
    await spend(connection, spent)
    await look_at(connection, {each.run for each in first.values()})


async def take_turns(connection: asyncpg.Connection, turns: Sequence[Turn]) -> None:
    """Move runs, in order. Running and paused alternate; the first end is the end."""
    for turn in turns:
        if turn.state in (EXPERIMENT_STATE_PAUSED, EXPERIMENT_STATE_RUNNING):
            await connection.execute(_PAUSE_OR_RESUME, *turn.run, turn.event_id, turn.state, turn.record.offset)
        else:
            await connection.execute(_END, *turn.run, turn.state, turn.record.offset)


async def spend(connection: asyncpg.Connection, picodollars: dict[Run, int]) -> None:
    """Add to what runs have spent."""
    rows = [(*run, amount) for run, amount in sorted(picodollars.items()) if amount]
    if rows:
        await connection.execute(_SPEND, *(list(column) for column in zip(*rows, strict=True)))


async def look_at(connection: asyncpg.Connection, runs: Collection[Run]) -> None:
    """Have runs looked at of which nothing is left to do."""
    await connection.execute(_LOOK_AT, *_columns(runs))


async def wake(connection: asyncpg.Connection) -> None:
    """Let all workers look, once this is committed."""
    await connection.execute("SELECT pg_notify($1, '')", WAKE)


def _columns(keys: Collection[tuple[Any, ...]]) -> list[list[Any]]:
    """In key order."""
    return [list(column) for column in zip(*sorted(keys), strict=True)]
