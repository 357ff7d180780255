"""TailTraces: summaries as they come in or change, in the order in which they were committed."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import asyncpg
from lodestream_proto.v1.query_pb2 import TailTracesRequest, TailTracesResponse

from services.read.query.database import Database
from services.read.query.filters import Conditions, add_filter
from services.read.query.nouns import trace_summary
from services.read.query.scores.of_traces import add_score_conditions
from services.read.query.traces import fetch_traces

_LOOK_SECONDS = 0.2
_MOST_AT_ONCE = 500
_SNAPSHOT = "SELECT pg_current_snapshot()::text"
_ORDER = "traces.changed_by, trace_id"


async def current_snapshot(database: Database) -> str:
    """Which transactions are visible now, as Postgres writes it (`pg_snapshot`)."""
    snapshot: str = await database.searches.fetchval(_SNAPSHOT)
    return snapshot


async def tail_traces(
    database: Database, project_id: str, request: TailTracesRequest, *, since: str
) -> AsyncIterator[TailTracesResponse]:
    """Every trace as it is after each look that finds it changed since a snapshot, as long as the caller listens.

    A trace has changed when the transaction that changed it last is visible in Postgres' snapshot of this look and was
    not in that of the look before. So nothing is missed or told twice, however late a transaction commits and whatever
    the clocks of gateways say.
    """
    before = since
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        now = await current_snapshot(database)
        if now == before:
            continue
        rows: Sequence[asyncpg.Record] = ()
        while True:
            conditions = Conditions(project_id)
            add_filter(conditions, request.filter)
            add_score_conditions(conditions, request.filter.scores)
            _add_changed(conditions, before, now, after=rows[-1] if rows else None)
            rows = await fetch_traces(database.searches, conditions, order=_ORDER, limit=_MOST_AT_ONCE)
            for row in rows:
                yield TailTracesResponse(trace=trace_summary(row))
            if len(rows) < _MOST_AT_ONCE:
                break
        before = now


def _add_changed(conditions: Conditions, before: str, now: str, *, after: asyncpg.Record | None) -> None:
    """Only traces that were changed between two snapshots, after this row. The first condition is for the index."""
    conditions.add("traces.changed_by >= pg_snapshot_xmin({}::text::pg_snapshot)", before)
    conditions.add("NOT pg_visible_in_snapshot(traces.changed_by, {}::text::pg_snapshot)", before)
    conditions.add("pg_visible_in_snapshot(traces.changed_by, {}::text::pg_snapshot)", now)
    if after is not None:
        changed_by, trace_id = conditions.parameter(after["changed_by"]), conditions.parameter(after["trace_id"])
        conditions.add_raw(f"(traces.changed_by, trace_id) > ({changed_by}::text::xid8, {trace_id})")
