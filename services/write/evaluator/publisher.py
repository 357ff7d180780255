"""Decided, then told: results are written down in Postgres before the log hears of them, so they are told once.

1. decide: the bytes to be told are stored under the fence; a worker that has lost the job is refused.
2. append the spans and the scores, and when the log has them, the result: a result in the log has its trace and scores.
3. mark the job as told, and drop the bytes.
A worker that dies in between leaves bytes that another one appends as they are, with all their ids.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from services.write.evaluator import metrics
from services.write.evaluator.jobs import Decision, Jobs, Key
from services.write.evaluator.result_events import record_of
from shared.event_log.append import Appender, LogUnavailableError
from shared.read_model.postgres import DATABASE_ERRORS
from shared.runtime.failpoints import failpoint

log = structlog.get_logger()

_AT_ONCE = 64
_BATCHES = 4
_WITHIN_SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_AWAY = (*DATABASE_ERRORS, LogUnavailableError)
T = TypeVar("T")
_Waiting = tuple[Decision, bool, "asyncio.Future[bool]"]


class Teller:
    """Tells what this worker's items came to, together what comes together."""

    def __init__(self, jobs: Jobs, appender: Appender) -> None:
        self._jobs, self._appender = jobs, appender
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()

    async def tell(self, decision: Decision, *, decided: bool = False) -> bool:
        """Return when the log has it; False: it was not ours to decide. `decided`: that has been done, by whomever."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((decision, decided, done))
        return await done

    async def run(self) -> None:
        """Until cancelled. Servers that are away are waited for."""
        turn = asyncio.Semaphore(_BATCHES)
        async with asyncio.TaskGroup() as batches:
            while True:
                await turn.acquire()
                batch = [await self._waiting.get()]
                while len(batch) < _AT_ONCE and not self._waiting.empty():
                    batch.append(self._waiting.get_nowait())
                task = batches.create_task(self._tell(batch))
                task.add_done_callback(lambda _: turn.release())

    async def _tell(self, batch: Sequence[_Waiting]) -> None:
        """Never raises: what nobody foresaw is told to those who wait."""
        try:
            await self._tell_all(batch)
        except Exception as error:
            for _, _, done in batch:
                if not done.done():
                    done.set_exception(error)

    async def _tell_all(self, batch: Sequence[_Waiting]) -> None:
        fresh = [decision for decision, decided, done in batch if not decided and not done.cancelled()]
        ours = {decision.key for decision, decided, _ in batch if decided}
        if fresh:
            ours |= await _insisting("decide", lambda: self._jobs.decide(fresh))
        await failpoint("evaluator.decided")
        kept = {decision.key: decision for decision, _, _ in batch if decision.key in ours}
        if kept:
            await self._append(list(kept.values()))
        metrics.REFUSED.inc(len({decision.key for decision in fresh} - ours))
        for decision, _, done in batch:
            if not done.done():
                done.set_result(decision.key in ours)

    async def _append(self, decisions: Sequence[Decision]) -> None:
        first = [record_of(event) for decision in decisions for event in decision.events[:-1]]
        last = [record_of(decision.events[-1]) for decision in decisions]
        await _insisting("append", lambda: self._appender.append(first, within=_WITHIN_SECONDS))
        await failpoint("evaluator.appended")
        await _insisting("append", lambda: self._appender.append(last, within=_WITHIN_SECONDS))
        await failpoint("evaluator.finished")
        keys: list[Key] = [decision.key for decision in decisions]
        await _insisting("mark", lambda: self._jobs.told(keys))
        await failpoint("evaluator.told")


async def _insisting(what: str, act: Callable[[], Awaitable[T]]) -> T:
    """Until it is done: to decide, append and mark again does no harm, whatever came of it before.

    A second decision of a job that was decided is refused; then others tell it when the lease ends.
    """
    wait = _FIRST_PAUSE
    while True:
        try:
            return await act()
        except _AWAY as error:
            log.warning("a server is away; results wait", step=what, error=f"{type(error).__name__}: {error}"[:300])
        await asyncio.sleep(random.uniform(wait / 2, wait))  # noqa: S311 - jitter, no secret
        wait = min(2 * wait, _LONGEST_PAUSE)
