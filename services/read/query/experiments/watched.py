"""One run that somebody watches: as it was last read, and what its streams share of reading it."""

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from lodestream_proto.v1.experiment_event_pb2 import ExperimentItemFinished
from lodestream_proto.v1.experiments_pb2 import (
    EXPERIMENT_STATE_PAUSED,
    EXPERIMENT_STATE_RUNNING,
    ExperimentItem,
    ExperimentRun,
)

from services.read.query.database import Database
from services.read.query.experiments.runs import find_run, messages_of
from services.read.query.experiments.summaries import SQL, Row, Summaries
from services.read.query.paging import fetch_page, snapshot
from shared.read_model.postgres import load_sql
from shared.runtime.fairness import FairLimiter

_ITEMS_SINCE = load_sql(SQL / "items_since.sql")
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
        """Whether a row of look_at_runs.sql says that the run is to be read again, and it may be already."""
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
            rows, more = await fetch_page(connection, _ITEMS_SINCE, [*self.key, instant, _AT_ONCE + 1], _AT_ONCE)
        items = [ExperimentItem(result=ExperimentItemFinished.FromString(row["result"])) for row in rows]
        return Items(items, rows[-1]["finished_at"] if rows else instant, more)

    def _fetched(self, instant: datetime, page: asyncio.Task[Items]) -> None:
        """Keep only what all streams come to: the newest results."""
        failed = page.cancelled() or page.exception() is not None
        if (failed or page.result().more) and self._pages.get(instant) is page:
            del self._pages[instant]


def _state(row: Row) -> tuple[object, ...]:
    return row["state"], row["items_finished"], row["ended_at"]
