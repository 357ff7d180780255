"""The publisher: results are decided in Postgres before they are appended to the log, so each is published once.

1. Decide: the bytes of the events are stored under the fence; a worker that has lost the job is refused.
2. Append the spans and the scores, and when the log has them, the result: a result in the log has its trace and scores.
3. Mark the job as published, and drop the bytes.

A worker that dies in between leaves bytes that another worker appends as they are, with all their ids.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar

import structlog

from services.write.evaluator import metrics
from services.write.evaluator.jobs import DecidedResult, JobQueue
from services.write.evaluator.result_events import log_record
from shared.event_log.append import Appender, LogUnavailableError
from shared.runtime.failpoints import failpoint
from shared.storage.postgres import DATABASE_ERRORS

log = structlog.get_logger()

_MAX_BATCH = 64
_CONCURRENT_BATCHES = 4
_APPEND_SECONDS = 10.0
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.1, 5.0
_UNAVAILABLE = (*DATABASE_ERRORS, LogUnavailableError)
T = TypeVar("T")


class _Submission(NamedTuple):
    result: DecidedResult
    is_decided: bool
    published: "asyncio.Future[bool]"


class ResultPublisher:
    """Publishes the results of this worker's items, in batches of those that come at the same time."""

    def __init__(self, jobs: JobQueue, appender: Appender) -> None:
        self._jobs, self._appender = jobs, appender
        self._submitted: asyncio.Queue[_Submission] = asyncio.Queue()

    async def publish(self, result: DecidedResult, *, is_decided: bool = False) -> bool:
        """Return once the log has the result; False when this worker had no right to decide it.

        With `is_decided` the result has been decided before, by whichever worker.
        """
        published: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._submitted.put_nowait(_Submission(result, is_decided, published))
        return await published

    async def run(self) -> None:
        """Publish until cancelled. Servers that are away are waited for."""
        turn = asyncio.Semaphore(_CONCURRENT_BATCHES)
        async with asyncio.TaskGroup() as batches:
            while True:
                await turn.acquire()
                batch = [await self._submitted.get()]
                while len(batch) < _MAX_BATCH and not self._submitted.empty():
                    batch.append(self._submitted.get_nowait())
                task = batches.create_task(self._publish_or_fail(batch))
                task.add_done_callback(lambda _: turn.release())

    async def _publish_or_fail(self, batch: Sequence[_Submission]) -> None:
        """Publish a batch; an unexpected error is raised where the results were submitted."""
        try:
            await self._publish(batch)
        except Exception as error:
            for submission in batch:
                if not submission.published.done():
                    submission.published.set_exception(error)

    async def _publish(self, batch: Sequence[_Submission]) -> None:
        undecided = [each.result for each in batch if not each.is_decided and not each.published.cancelled()]
        decided = {each.result.key for each in batch if each.is_decided}
        if undecided:
            decided |= await _retry("decide", lambda: self._jobs.decide(undecided))
        await failpoint("evaluator.decided")
        results = {each.result.key: each.result for each in batch if each.result.key in decided}
        if results:
            await self._append(list(results.values()))
        metrics.REFUSED.inc(len({result.key for result in undecided} - decided))
        for each in batch:
            if not each.published.done():
                each.published.set_result(each.result.key in decided)

    async def _append(self, results: Sequence[DecidedResult]) -> None:
        first = [log_record(event) for result in results for event in result.events[:-1]]
        last = [log_record(result.events[-1]) for result in results]
        await _retry("append", lambda: self._appender.append(first, within=_APPEND_SECONDS))
        await failpoint("evaluator.appended")
        await _retry("append", lambda: self._appender.append(last, within=_APPEND_SECONDS))
        await failpoint("evaluator.finished")
        keys = [result.key for result in results]
        await _retry("mark", lambda: self._jobs.mark_published(keys))
        await failpoint("evaluator.published")


async def _retry(step: str, act: Callable[[], Awaitable[T]]) -> T:
    """Act until it succeeds: deciding, appending and marking may be repeated, whatever came of it before.

    A second decision of a job that another worker has decided is refused; that worker, or whoever takes the job over
    when its lease ends, publishes the result.
    """
    wait = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return await act()
        except _UNAVAILABLE as error:
            log.warning("a server is away; results wait", step=step, error=f"{type(error).__name__}: {error}"[:300])
        await asyncio.sleep(random.uniform(wait / 2, wait))  # noqa: S311 - jitter, no secret
        wait = min(2 * wait, _MAX_PAUSE_SECONDS)
