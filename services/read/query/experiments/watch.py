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
from services.read.query.refusal import AWAY, answering
from shared.read_model.caller import project_of
from shared.runtime.fairness import FairLimiter
from shared.runtime.refusal import Context, UnavailableError

log = structlog.get_logger()

_ITEMS_SINCE = QUERIES["items_since"]
_LOOK_AT_RUNS = QUERIES["look_at_runs"]
_LOOK_SECONDS, _LOOK_TIMEOUT = 0.2, 3.0
_GIVE_UP_SECONDS, _DOUBT_SECONDS = 10.0, 2.0
"""Without an answer of the database, of which a restart takes less; and between two looks at the time."""
_UNDER_WAY = (EXPERIMENT_STATE_RUNNING, EXPERIMENT_STATE_PAUSED)
_SHARE = 10
"""After a reading the run is left alone for so many times as long."""
_AT_ONCE = 1_000
"""Results in a message, at most."""
THE_BEGINNING = datetime.fromtimestamp(0, UTC)
Key = tuple[str, str]
"""A project's id and a run's."""


@dataclass(frozen=True, slots=True)
class Items:
    """Results in the order in which they were told, the instant of the last one, and whether there were more."""

    items: list[ExperimentItem]
    until: datetime
    more: bool


class Watched:
    """A run and its streams."""

    def __init__(
        self, key: Key, database: Database, summaries: Summaries, turns: FairLimiter, clock: Callable[[], float]
    ) -> None:
        """`turns` are those of all projects' readings."""
        self.key, self.streams, self._turns = key, 0, turns
        self.changes = 0
        """Of `run`, counted."""
        self._database, self._summaries, self._clock = database, summaries, clock
        self._run: ExperimentRun | None = None
        self._state: tuple[object, ...] = ()
        self._began, self._due = -math.inf, -math.inf
        self._reading, self._changed = asyncio.Lock(), asyncio.Event()
        self._pages: dict[datetime, asyncio.Task[Items]] = {}

    @property
    def run(self) -> ExperimentRun:
        """As it was last read."""
        assert self._run is not None
        return self._run

    @property
    def has_ended(self) -> bool:
        """Whether it had when it was last read."""
        return self.run.state not in _UNDER_WAY

    def is_news(self, row: Row) -> bool:
        """Whether a row of look_at_runs says that the run is to be read again, and it may be already."""
        return _state(row) != self._state and self._clock() >= self._due

    async def wait(self, seconds: float) -> None:
        """Return when there is something new, or after so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def wake(self) -> None:
        """Let all who wait look."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def read(self) -> None:
        """Read the run as it is now. All who ask while it is being read share the next reading.

        Raises RefusedError: NOT_FOUND; or the project has too many such readings waiting.
        """
        asked = self._clock()
        async with self._reading:
            if self._began > asked:
                return
            async with self._turns.hold(self.key[0]), snapshot(self._database) as connection:
                began = self._clock()
                row = await find_run(connection, *self.key)
                (run,) = await messages_of(connection, self.key[0], [row], self._summaries)
            self._began, self._state = began, _state(row)
            self._due = self._clock() + _SHARE * (self._clock() - began)
            if run != self._run:
                self._run = run
                self.changes += 1
                self._pages.clear()  # what was read before does not have what the run has now
                self.wake()

    async def items_after(self, instant: datetime) -> Items:
        """The results that were told after another one; streams that are equally far share the reading."""
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
        """Keep only what all streams come to: the newest results."""
        failed = page.cancelled() or page.exception() is not None
        if (failed or page.result().more) and self._pages.get(instant) is page:
            del self._pages[instant]


def _state(row: Row) -> tuple[object, ...]:
    return row["state"], row["items_finished"], row["ended_at"]


class Watching:
    """All streams of this process."""

    def __init__(
        self, read_context: ReadContext, summaries: Summaries, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read_context, self._summaries, self._clock = read_context, summaries, clock
        self._watched: dict[Key, Watched] = {}
        self._somebody = asyncio.Event()
        self._readings: set[asyncio.Task[None]] = set()
        self._answered_at = clock()
        self._draining = False

    async def run(self) -> NoReturn:
        """Look at all that is watched, for ever; nothing is asked while nobody watches."""
        while True:
            if not self._watched:
                self._somebody.clear()
            await self._somebody.wait()
            try:
                await self._look()
            except Exception as error:
                log.warning("watched runs can't be looked at", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(_LOOK_SECONDS)

    def drain(self) -> None:
        """End all streams: their clients come back elsewhere."""
        self._draining = True
        for watched in self._watched.values():
            watched.wake()

    async def stream(self, request: WatchExperimentRequest, context: Context) -> AsyncIterator[WatchExperimentResponse]:
        """The run at once, then as it changes; with the results told since, each once. Ends when the run has ended.

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

    async def _open(self, request: WatchExperimentRequest, context: Context) -> Watched:
        key = await project_of(self._read_context.keys, context), required("run_id", request.run_id)
        watched = self._watched.get(key)
        if watched is None:
            watched = self._watched[key] = Watched(
                key, self._read_context.database, self._summaries, self._read_context.admission.watched, self._clock
            )
        watched.streams += 1
        try:
            await watched.read()
        except BaseException:
            self._close(watched)
            raise
        self._answered_at = self._clock()
        self._somebody.set()
        return watched

    def _close(self, watched: Watched) -> None:
        watched.streams -= 1
        if not watched.streams:
            del self._watched[watched.key]

    async def _change(self, watched: Watched, seen: int) -> None:
        """Return when the run is not as it was seen, some time after that.

        Raises RefusedError: nobody can tell any more.
        """
        if seen:
            await asyncio.sleep(_LOOK_SECONDS)  # whoever else has it read meanwhile
        while True:
            if self._draining:
                raise UnavailableError("the query service is going away: connect again", retry_seconds=0.1)
            self._check_answers()
            if watched.changes != seen:
                return
            await watched.wait(_DOUBT_SECONDS)

    async def _items(self, watched: Watched, after: datetime) -> Items:
        while True:
            try:
                return await watched.items_after(after)
            except AWAY:
                self._check_answers()
                await asyncio.sleep(_LOOK_SECONDS)

    def _check_answers(self) -> None:
        if self._clock() - self._answered_at > _GIVE_UP_SECONDS:
            raise UnavailableError("the database does not answer: nobody can tell how the run goes on")

    async def _look(self) -> None:
        if not self._watched:
            return
        projects, runs = (list(column) for column in zip(*self._watched, strict=True))
        rows = await self._read_context.database.search_pool.fetch(_LOOK_AT_RUNS, projects, runs, timeout=_LOOK_TIMEOUT)
        self._answered_at = self._clock()
        for row in rows:
            watched = self._watched.get((row["project_id"], row["run_id"]))
            if watched and watched.is_news(row):
                reading = asyncio.create_task(self._read(watched))
                self._readings.add(reading)
                reading.add_done_callback(self._readings.discard)

    async def _read(self, watched: Watched) -> None:
        try:
            await watched.read()
        except Exception as error:
            log.warning("a watched run can't be read", run=watched.key[1], error=f"{type(error).__name__}: {error}")
