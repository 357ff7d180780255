"""WatchExperiment: one question for all runs that are watched, one reading for all who watch the same."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from functools import partial
from typing import NoReturn, TypeVar

import structlog
from lodestream_proto.v1.experiments_pb2 import WatchExperimentRequest, WatchExperimentResponse

from services.read.query.experiments.summaries import SQL, Summaries
from services.read.query.experiments.watched import THE_BEGINNING, Items, Key, Watched
from services.read.query.filters import required
from services.read.query.reading import Reads
from services.read.query.refusal import AWAY, answering
from shared.read_model.caller import project_of
from shared.read_model.postgres import load_sql
from shared.runtime.refusal import Context, UnavailableError

log = structlog.get_logger()
T = TypeVar("T")
_LOOK_AT_RUNS = load_sql(SQL / "look_at_runs.sql")
_LOOK_SECONDS, _LOOK_TIMEOUT = 0.2, 3.0
_GIVE_UP_SECONDS, _DOUBT_SECONDS = 10.0, 2.0
"""Without an answer of the database, of which a restart takes less; and between two looks at the time."""


class Watching:
    """All streams of this process."""

    def __init__(self, reads: Reads, summaries: Summaries, clock: Callable[[], float] = time.monotonic) -> None:
        self._reads, self._summaries, self._clock = reads, summaries, clock
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
        key = await project_of(self._reads.keys, context), required("run_id", request.run_id)
        watched = self._watched.get(key)
        if watched is None:
            watched = self._watched[key] = Watched(
                key, self._reads.database, self._summaries, self._reads.admission.watched, self._clock
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
        rows = await self._reads.database.searches.fetch(_LOOK_AT_RUNS, projects, runs, timeout=_LOOK_TIMEOUT)
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
