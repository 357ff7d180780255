"""TailTraces: summaries as they come in or change, in the order in which they were committed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from lodestream_proto.v1.query_pb2 import TailTracesRequest, TailTracesResponse

from services.read.query.database import Database
from services.read.query.filters import Conditions, add_filter
from services.read.query.messages import trace_summary
from services.read.query.trace_scores import add_score_conditions
from services.read.query.traces import fetch_traces
from shared.storage.named_queries import load_queries

_POLL_SECONDS = 0.2
_MAX_AT_ONCE = 500
_QUERIES = load_queries(Path(__file__).with_name("traces.sql"))
_CURRENT_SNAPSHOT = _QUERIES["current_snapshot"]
_CHANGED_PROJECTS = _QUERIES["changed_projects"]
_ORDER = "traces.changed_by, trace_id"


async def current_snapshot(database: Database) -> str:
    """Return which transactions are visible now, as Postgres writes it (`pg_snapshot`)."""
    snapshot: str = await database.search_pool.fetchval(_CURRENT_SNAPSHOT)
    return snapshot


@dataclass(frozen=True, slots=True)
class Poll:
    """What all tails of a process share of one poll of the database."""

    before: str | None
    """The snapshot of the poll before; None: this is the first."""
    now: str
    unchanged: frozenset[str] = frozenset()
    """Projects none of whose traces has changed between the two."""


class ChangePoller:
    """Polls the database five times a second while somebody waits, once for all tails of a process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tailed: Counter[str] = Counter()
        self._last: str | None = None
        self._under_way: asyncio.Task[Poll] | None = None

    @contextmanager
    def tail(self, project_id: str) -> Iterator[None]:
        """Have polls say whether the project's traces have changed, while this is entered."""
        self._tailed[project_id] += 1
        try:
            yield
        finally:
            self._tailed[project_id] -= 1
            if not self._tailed[project_id]:
                del self._tailed[project_id]

    async def next(self) -> Poll:
        """Return the poll that begins in a fifth of a second, or that somebody waits for already.

        Raises what the database raises.
        """
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(self._poll())
            self._under_way.add_done_callback(_retrieve_exception)
        return await asyncio.shield(self._under_way)

    async def _poll(self) -> Poll:
        await asyncio.sleep(_POLL_SECONDS)
        before, projects = self._last, frozenset(self._tailed)
        now = await current_snapshot(self._database)
        if before is None:
            unchanged: frozenset[str] = frozenset()
        elif before == now:
            unchanged = projects
        else:
            rows = await self._database.search_pool.fetch(_CHANGED_PROJECTS, list(projects), before, now)
            unchanged = projects - {row["project_id"] for row in rows}
        self._last = now
        return Poll(before, now, unchanged)


def _retrieve_exception(poll: "asyncio.Task[Poll]") -> None:
    """Retrieve the exception of a poll: when it fails, nobody may wait for it any more."""
    if not poll.cancelled():
        poll.exception()


async def tail_traces(
    database: Database, poller: ChangePoller, project_id: str, request: TailTracesRequest, *, since: str
) -> AsyncIterator[TailTracesResponse]:
    """Yield a trace after each poll that finds it changed since a snapshot, as long as the caller listens.

    A trace has changed when the transaction that changed it last is visible in Postgres' snapshot of this poll and was
    not in that of the poll before. So nothing is missed or yielded twice, however late a transaction commits and
    whatever the clocks of gateways say.
    """
    before = since
    with poller.tail(project_id):
        while True:
            poll = await poller.next()
            if poll.before != before or project_id not in poll.unchanged:
                async for row in _changed_traces(database, project_id, request, before, poll.now):
                    yield TailTracesResponse(trace=trace_summary(row))
            before = poll.now


async def _changed_traces(
    database: Database, project_id: str, request: TailTracesRequest, before: str, now: str
) -> AsyncIterator[asyncpg.Record]:
    rows: Sequence[asyncpg.Record] = ()
    while True:
        conditions = Conditions(project_id)
        add_filter(conditions, request.filter)
        add_score_conditions(conditions, request.filter.scores)
        _add_changed(conditions, before, now, after=rows[-1] if rows else None)
        rows = await fetch_traces(database.search_pool, conditions, order=_ORDER, limit=_MAX_AT_ONCE)
        for row in rows:
            yield row
        if len(rows) < _MAX_AT_ONCE:
            return


def _add_changed(conditions: Conditions, before: str, now: str, *, after: asyncpg.Record | None) -> None:
    """Leave only traces changed between two snapshots, after a row. The first condition is for the index."""
    conditions.add("traces.changed_by >= pg_snapshot_xmin({}::text::pg_snapshot)", before)
    conditions.add("NOT pg_visible_in_snapshot(traces.changed_by, {}::text::pg_snapshot)", before)
    conditions.add("pg_visible_in_snapshot(traces.changed_by, {}::text::pg_snapshot)", now)
    if after is not None:
        changed_by, trace_id = conditions.parameter(after["changed_by"]), conditions.parameter(after["trace_id"])
        conditions.add_raw(f"(traces.changed_by, trace_id) > ({changed_by}::text::xid8, {trace_id})")
