"""The queue in Postgres: jobs are claimed under a lease and a fence, renewed, rescheduled, decided, published.

Every change names owner and fence, so that a worker whose lease has run out changes nothing any more. Statements that
lock several jobs lock them in key order.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import structlog

from services.write.evaluator.fair_slots import MAX_HELD_PER_FREE, CandidateRun, share_slots
from services.write.evaluator.providers.endpoints import Endpoint
from shared.storage.named_queries import load_queries
from shared.storage.postgres import DATABASE_ERRORS

log = structlog.get_logger()

_JOBS = load_queries(Path(__file__).with_name("jobs.sql"))
_RUNS = load_queries(Path(__file__).with_name("runs.sql"))
_SELECT_SERVABLE_RUNS, _COUNT_RUN_BACKLOG = _JOBS["select_servable_runs"], _JOBS["count_run_backlog"]
_CLAIM_JOBS, _RENEW_LEASES, _RELEASE_ALL = _JOBS["claim_jobs"], _JOBS["renew_leases"], _JOBS["release_all"]
_REQUEUE_EXPIRED, _TAKE_OVER_DECIDED = _JOBS["requeue_expired"], _JOBS["take_over_decided"]
_RESCHEDULE, _DECIDE, _MARK_PUBLISHED = _JOBS["reschedule"], _JOBS["decide"], _JOBS["mark_published"]
_HEARTBEAT, _COUNT_QUEUED = _JOBS["heartbeat"], _JOBS["count_queued"]
_ADD_SPENDING, _SCHEDULE_RUN_CHECK = _RUNS["add_spending"], _RUNS["schedule_run_check"]
_SET_OUTCOME = _RUNS["set_outcome"]
_CHANNEL = "lodestream_evaluator"
_MAX_RUNS_SERVED = 16
_LISTEN_AGAIN_SECONDS = 1.0

Run = tuple[str, str]
"""The id of a project, and the id of one of its runs."""


class JobState(IntEnum):
    """What `evaluator.jobs.state` holds."""

    QUEUED = 0
    RUNNING = 1
    DECIDED = 2
    PUBLISHED = 3


class JobKey(NamedTuple):
    """The primary key of a job."""

    project_id: str
    run_id: str
    item_id: str
    repetition: int

    @property
    def run(self) -> Run:
        """The run that the job belongs to."""
        return self.project_id, self.run_id


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that this worker holds until another worker raises the job's fence."""

    key: JobKey
    fence: int
    attempt: int
    """Counted from 1."""


@dataclass(frozen=True, slots=True)
class DecidedResult:
    """The outcome of a job as the events that publish it, the result last."""

    key: JobKey
    fence: int
    events: Sequence[bytes]
    picodollars: int = 0
    """What the item cost, evaluators included."""


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """What jobs a worker wants to claim."""

    providers: Collection[str]
    """The providers that the worker offers."""
    resting_providers: Collection[str] = ()
    """Those of them whose runs are passed over now."""
    excluded_runs: Collection[Run] = ()
    """Runs that are passed over now."""
    slots_in_use: Mapping[str, int] = field(default_factory=dict)
    """How many of the worker's slots each project holds."""


class JobQueue:
    """The queue as one worker sees it. All methods raise what asyncpg raises."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        owner: str,
        lease_seconds: float,
        endpoints: Sequence[Endpoint] = (),
        provider_grace_seconds: float = 600,
    ) -> None:
        """Make the queue of worker `owner`.

        `endpoints` are what the worker offers; they stay offered for `provider_grace_seconds` after its last heartbeat.
        """
        self._pool, self._owner = pool, owner
        self._lease = timedelta(seconds=lease_seconds)
        self._endpoints, self._offered_for = endpoints, timedelta(seconds=provider_grace_seconds)

    async def claim(self, slots: int, request: ClaimRequest) -> list[ClaimedJob]:
        """Claim at most `slots` queued jobs, shared fairly among runs; of no run more than its concurrency allows.

        Each run is locked before its running jobs are counted, so that no two workers count at once.
        """
        excluded = _columns(list(request.excluded_runs)) or [[], []]
        callable_now = [name for name in request.providers if name not in request.resting_providers]
        saturated = [name for name, used in request.slots_in_use.items() if used >= MAX_HELD_PER_FREE * slots]
        async with self._pool.acquire() as connection, connection.transaction():
            runs = await connection.fetch(
                _SELECT_SERVABLE_RUNS, callable_now, *excluded, _MAX_RUNS_SERVED, list(request.providers), saturated
            )
            if not runs:
                return []
            concurrency = {(row["project_id"], row["run_id"]): row["max_concurrency"] for row in runs}
            backlog = await connection.fetch(_COUNT_RUN_BACKLOG, *_columns(list(concurrency)), slots)
            candidates = [
                CandidateRun(
                    row["project_id"], row["run_id"], row["ready"], row["running_of_run"], row["running_of_project"],
                    concurrency[row["project_id"], row["run_id"]],
                )
                for row in backlog
            ]  # fmt: skip
            shares = [(*run, size) for run, size in share_slots(slots, candidates, request.slots_in_use).items()]
            if not shares:
                return []
            rows = await connection.fetch(_CLAIM_JOBS, *_columns(shares), self._owner, self._lease)
        return [ClaimedJob(_key(row), row["fence"], row["attempts"]) for row in rows]

    async def renew_leases(self, fences: Mapping[JobKey, int]) -> set[JobKey]:
        """Prolong the leases of jobs; returns those that this worker still holds and whose run has not ended."""
        if not fences:
            return set()
        own = _columns([(*key, fence) for key, fence in fences.items()])
        return {_key(row) for row in await self._pool.fetch(_RENEW_LEASES, *own, self._owner, self._lease)}

    async def requeue_expired(self) -> int:
        """Queue jobs again that were running under a lease that has run out; returns how many."""
        status = await self._pool.execute(_REQUEUE_EXPIRED)
        return int(status.rpartition(" ")[2])  # of "UPDATE 3"

    async def take_over_decided(self, limit: int) -> list[DecidedResult]:
        """Take over results that were decided under a lease that has run out, and may not have been published."""
        rows = await self._pool.fetch(_TAKE_OVER_DECIDED, self._owner, self._lease, limit)
        return [DecidedResult(_key(row), row["fence"], row["pending_events"]) for row in rows]

    async def reschedule(self, job: ClaimedJob, seconds: float, *, counts: bool) -> None:
        """Queue a job again for in so many seconds; with `counts` the attempt was one."""
        uncounted = 0 if counts else 1
        await self._pool.execute(
            _RESCHEDULE, *job.key, job.fence, timedelta(seconds=seconds), uncounted, self._owner
        )  # fmt: skip

    async def decide(self, results: Sequence[DecidedResult]) -> set[JobKey]:
        """Store results; returns the keys of those that this worker had the right to decide. It may be repeated."""
        in_order = sorted(results, key=lambda result: result.key)
        arguments = [
            (*result.key, result.fence, list(result.events), self._owner, self._lease) for result in in_order
        ]  # fmt: skip
        async with self._pool.acquire() as connection, connection.transaction():
            state_before = {_key(row): row["state_before"] for row in await connection.fetchmany(_DECIDE, arguments)}
            spent: dict[Run, int] = defaultdict(int)
            for result in in_order:
                if state_before.get(result.key) == JobState.RUNNING:
                    spent[result.key.run] += result.picodollars
            await add_spending(connection, spent)
        return set(state_before)

    async def mark_published(self, keys: Collection[JobKey]) -> None:
        """The log has the results of these jobs: drop their events, and have finished runs checked."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_MARK_PUBLISHED, *_columns(sorted(keys)))
            await schedule_run_check(connection, {key.run for key in keys})

    async def end_run(self, run: Run, outcome: int, reason: str) -> None:
        """Have a run end with an `ExperimentOutcome`: no job of it begins any more."""
        await self._pool.execute(_SET_OUTCOME, *run, outcome, reason)

    async def release_all(self) -> None:
        """Give back all jobs that this worker holds; it ends."""
        await self._pool.execute(_RELEASE_ALL, self._owner)

    async def heartbeat(self) -> int:
        """Record that this worker is alive and which providers it offers; returns how many workers are alive."""
        offers = [(each.name, each.kind, each.granted_only, json.dumps(each.models)) for each in self._endpoints]
        columns = _columns(offers) or [[], [], [], []]
        return int(await self._pool.fetchval(_HEARTBEAT, self._owner, self._offered_for, *columns))

    async def count_queued(self) -> int:
        """How many jobs are queued, over all open runs; counted to 10,000."""
        return int(await self._pool.fetchval(_COUNT_QUEUED))


async def add_spending(connection: asyncpg.Connection, picodollars: Mapping[Run, int]) -> None:
    """Add to what runs have spent of their budgets."""
    if rows := [(*run, amount) for run, amount in sorted(picodollars.items()) if amount]:
        await connection.execute(_ADD_SPENDING, *_columns(rows))


async def schedule_run_check(connection: asyncpg.Connection, runs: Collection[Run]) -> None:
    """Have those of the runs checked that have nothing left to do."""
    await connection.execute(_SCHEDULE_RUN_CHECK, *_columns(sorted(runs)))


async def notify_workers(connection: asyncpg.Connection) -> None:
    """Have all workers look for something to do, or to stop doing, once the transaction is committed."""
    await connection.execute("SELECT pg_notify($1, '')", _CHANNEL)


async def listen_for_work(pool: asyncpg.Pool, on_notified: Callable[[], None]) -> None:
    """Call `on_notified` for each notification, and whenever listening begins (anew), until cancelled.

    Notifications may be lost, so that whoever listens also looks by itself now and then.
    """

    def notified(*_: object) -> None:
        on_notified()

    while True:
        try:
            async with pool.acquire() as connection:
                lost = asyncio.Event()

                def lose(*_: object, lost: asyncio.Event = lost) -> None:
                    lost.set()

                connection.add_termination_listener(lose)
                await connection.add_listener(_CHANNEL, notified)
                try:
                    on_notified()
                    await lost.wait()
                finally:
                    connection.remove_termination_listener(lose)
                    with suppress(*DATABASE_ERRORS):
                        await connection.remove_listener(_CHANNEL, notified)
        except Exception as error:
            log.warning("notifications can't be heard", error=f"{type(error).__name__}: {error}"[:300])
        await asyncio.sleep(_LISTEN_AGAIN_SECONDS)


def _key(row: asyncpg.Record) -> JobKey:
    return JobKey(row["project_id"], row["run_id"], row["item_id"], row["repetition"])


def _columns(rows: Collection[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
