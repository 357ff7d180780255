"""WatchExperiment: one poll for all runs that are watched, one reading for all who watch the same."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import NoReturn

import structlog
from lodestream_proto.v1.experiment_event_pb2 import ExperimentItemFinished
from lodestream_proto.v1.experiments_pb2 import (
    EXPERIMENT_STATE_PAUSED,
    EXPERIMENT_STATE_RUNNING,
    ExperimentItem,
    ExperimentRun,
    WatchExperimentRequest,
    WatchExperimentResponse,
)

from services.read.query.database import Database
from services.read.query.experiments.runs import find_run, messages_of
from services.read.query.experiments.summaries import QUERIES, Row, Summaries
from services.read.query.filters import Statement, required
from services.read.query.paging import fetch_page, snapshot
from services.read.query.read_context import ReadContext
from services.read.query.refusal import DATABASE_AWAY, answering
from shared.auth.caller import project_of
from shared.runtime.fairness import FairLimiter
from shared.runtime.refusal import Context, UnavailableError

log = structlog.get_logger()

_ITEMS_SINCE = QUERIES["items_since"]
_POLL_RUNS = QUERIES["poll_runs"]
_POLL_SECONDS, _POLL_TIMEOUT = 0.2, 3.0
_GIVE_UP_SECONDS, _DOUBT_SECONDS = 10.0, 2.0
"""How long streams go on without an answer of the database, which a restart takes less than, and how often that is
checked."""
_UNDER_WAY = (EXPERIMENT_STATE_RUNNING, EXPERIMENT_STATE_PAUSED)
_REST_FACTOR = 10
"""After a reading that took a second, the run is not read again for so many seconds."""
_AT_ONCE = 1_000
"""Results of one message, at most."""
THE_BEGINNING = datetime.fromtimestamp(0, UTC)
Key = tuple[str, str]
"""A project's id and a run's."""


@dataclass(frozen=True, slots=True)
class Items:
    """Results in the order of the log, the instant of the last one, and whether there are more."""

    items: list[ExperimentItem]
    until: datetime
    more: bool


class WatchedRun:
    """A run that somebody watches: as it was last read, and what its streams share of reading it."""

    def __init__(
        self, key: Key, database: Database, summaries: Summaries, turns: FairLimiter, clock: Callable[[], float]
    ) -> None:
        """Watch a run; `turns` limits the readings of all projects."""
        self.key, self.streams, self._turns = key, 0, turns
        self.changes = 0
        """How often `run` has changed."""
        self._database, self._summaries, self._clock = database, summaries, clock
        self._run: ExperimentRun | None = None
        self._state: tuple[object, ...] = ()
        self._began, self._due = -math.inf, -math.inf
        self._reading, self._changed = asyncio.Lock(), asyncio.Event()
        self._pages: dict[datetime, asyncio.Task[Items]] = {}

    @property
    def run(self) -> ExperimentRun:
        """The run as it was last read."""
        assert self._run is not None
        return self._run

    @property
    def has_ended(self) -> bool:
        """Whether the run had ended when it was last read."""
        return self.run.state not in _UNDER_WAY

    def has_news(self, row: Row) -> bool:
        """Return whether a row of poll_runs says that the run has changed, and it may be read again already."""
        return _state(row) != self._state and self._clock() >= self._due

    async def wait(self, seconds: float) -> None:
        """Wait until something changes, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def wake(self) -> None:
        """Wake all who wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def read(self) -> None:
        """Read the run as it is now. All who request it while it is being read share the next reading.

        Raises RefusedError: NOT_FOUND; or the project has too many such readings waiting.
        """
        requested_at = self._clock()
        async with self._reading:
            if self._began > requested_at:
                return
            async with self._turns.hold(self.key[0]), snapshot(self._database) as connection:
                began = self._clock()
                row = await find_run(connection, *self.key)
                (run,) = await messages_of(connection, self.key[0], [row], self._summaries)
            self._began, self._state = began, _state(row)
            self._due = self._clock() + _REST_FACTOR * (self._clock() - began)
            if run != self._run:
                self._run = run
                self.changes += 1
                self._pages.clear()  # what was read before does not have what the run has now
                self.wake()

    async def items_after(self, instant: datetime) -> Items:
        """Return the results after an instant; streams that are equally far share the reading."""
        page = self._pages.get(instant)
        if page is None:
            page = self._pages[instant] = asyncio.create_task(self._fetch(instant))
            page.add_done_callback(partial(self._fetched, instant))
        return await asyncio.shield(page)

    async def _fetch(self, instant: datetime) -> Items:
        async with self._turns.hold(self.key[0]), snapshot(self._database) as connection:
            statement = Statement(_ITEMS_SINCE, [*self.key, instant, _AT_ONCE + 1])
            rows, more = await fetch_page(connection, statement, _AT_ONCE)
        items = [ExperimentItem(result=ExperimentItemFinished.FromString(row["result"])) for row in rows]
        return Items(items, rows[-1]["finished_at"] if rows else instant, more)

    def _fetched(self, instant: datetime, page: asyncio.Task[Items]) -> None:
        """Keep only the page that all streams come to: the newest results."""
        failed = page.cancelled() or page.exception() is not None
        if (failed or page.result().more) and self._pages.get(instant) is page:
            del self._pages[instant]


def _state(row: Row) -> tuple[object, ...]:
    return row["state"], row["items_finished"], row["ended_at"]


class RunWatcher:
    """All streams of WatchExperiment of a process."""

    def __init__(
        self, read_context: ReadContext, summaries: Summaries, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read_context, self._summaries, self._clock = read_context, summaries, clock
        self._watched: dict[Key, WatchedRun] = {}
        self._has_streams = asyncio.Event()
        self._readings: set[asyncio.Task[None]] = set()
        self._answered_at = clock()
        self._draining = False

    async def run(self) -> NoReturn:
        """Poll all runs that are watched, for ever; nothing is polled while nobody watches."""
        while True:
            if not self._watched:
                self._has_streams.clear()
            await self._has_streams.wait()
            try:
                await self._poll()
            except Exception as error:
                log.warning("watched runs can't be looked at", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(_POLL_SECONDS)

    def drain(self) -> None:
        """End all streams: their clients reconnect elsewhere."""
        self._draining = True
        for watched in self._watched.values():
            watched.wake()

    async def stream(self, request: WatchExperimentRequest, context: Context) -> AsyncIterator[WatchExperimentResponse]:
        """Yield the run at once, then as it changes, until it has ended, with its new results, each once.

        What is too much for one message comes in several.
        """
        watched = await answering("WatchExperiment.open", context, partial(self._open, request, context))
        try:
            changes, until = 0, THE_BEGINNING
            while True:
                await answering("WatchExperiment", context, partial(self._change, watched, changes))
                run, changes, is_last = watched.run, watched.changes, watched.has_ended
                page = Items([], until, more=request.with_items)
                while page.more:
                    page = await answering("WatchExperiment", context, partial(self._items, watched, page.until))
                    if page.more:
                        yield WatchExperimentResponse(run=run, items=page.items)
                until = page.until
                yield WatchExperimentResponse(run=run, items=page.items)
                if is_last:
                    return
        finally:
            self._close(watched)

    async def _open(self, request: WatchExperimentRequest, context: Context) -> WatchedRun:
        key = await project_of(self._read_context.keys, context), required("run_id", request.run_id)
        watched = self._watched.get(key)
        if watched is None:
            watched = self._watched[key] = WatchedRun(
                key, self._read_context.database, self._summaries, self._read_context.admission.watched, self._clock
            )
        watched.streams += 1
        try:
            await watched.read()
        except BaseException:
            self._close(watched)
            raise
        self._answered_at = self._clock()
        self._has_streams.set()
        return watched

    def _close(self, watched: WatchedRun) -> None:
        watched.streams -= 1
        if not watched.streams:
            del self._watched[watched.key]

    async def _change(self, watched: WatchedRun, seen: int) -> None:
        """Wait until the run is not as it was seen, some time after that.

        Raises RefusedError: the service goes away, or the database has not answered for long.
        """
        if seen:
            await asyncio.sleep(_POLL_SECONDS)  # whoever else has it read meanwhile
        while True:
            if self._draining:
                raise UnavailableError("the query service is going away: connect again", retry_seconds=0.1)
            self._check_answers()
            if watched.changes != seen:
                return
            await watched.wait(_DOUBT_SECONDS)

    async def _items(self, watched: WatchedRun, after: datetime) -> Items:
        while True:
            try:
                return await watched.items_after(after)
            except DATABASE_AWAY:
                self._check_answers()
                await asyncio.sleep(_POLL_SECONDS)

    def _check_answers(self) -> None:
        if self._clock() - self._answered_at > _GIVE_UP_SECONDS:
            raise UnavailableError("the database does not answer: nobody can tell how the run goes on")

    async def _poll(self) -> None:
        if not self._watched:
            return
        projects, runs = (list(column) for column in zip(*self._watched, strict=True))
        rows = await self._read_context.database.search_pool.fetch(_POLL_RUNS, projects, runs, timeout=_POLL_TIMEOUT)
        self._answered_at = self._clock()
        for row in rows:
            watched = self._watched.get((row["project_id"], row["run_id"]))
            if watched and watched.has_news(row):
                reading = asyncio.create_task(self._read(watched))
                self._readings.add(reading)
                reading.add_done_callback(self._readings.discard)

    async def _read(self, watched: WatchedRun) -> None:
        try:
            await watched.read()
        except Exception as error:
            log.warning("a watched run can't be read", run=watched.key[1], error=f"{type(error).__name__}: {error}")
