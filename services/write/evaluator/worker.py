"""The worker claims jobs while it has slots, runs each in a task of its own, and renews their leases by heartbeats."""

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Generic, TypeVar

import structlog
from lodestream_proto.v1.experiment_event_pb2 import EXPERIMENT_OUTCOME_BUDGET_SPENT

from services.write.evaluator import metrics
from services.write.evaluator.item_runner import ItemRunner, exhausted_outcome
from services.write.evaluator.items import ItemOutcome, RunItem
from services.write.evaluator.jobs import ClaimedJob, ClaimRequest, DecidedResult, JobKey, JobQueue, Run
from services.write.evaluator.model_calls import backoff_seconds
from services.write.evaluator.providers.provider import TransientError
from services.write.evaluator.publisher import ResultPublisher
from services.write.evaluator.rate_limits import CallDelayedError
from services.write.evaluator.result_events import item_events, task_usage
from services.write.evaluator.run_context import RunContext, RunContexts, RunUnavailableError
from services.write.evaluator.schema_validation import EvaluationDelayedError
from services.write.evaluator.spending import CapReachedError, SpendingDelayedError
from shared.event_log.append import Appender
from shared.runtime.failpoints import failpoint
from shared.runtime.settings import EvaluatorSettings

log = structlog.get_logger()
T = TypeVar("T")

_POLL_SECONDS = 0.5
_BETWEEN_CLAIMS_SECONDS = 0.02
_RETRY_SECONDS = 5.0
"""When a job is tried again that could not be run for reasons that are not its own."""


@dataclass(slots=True)
class _ActiveJob:
    fence: int
    task: "asyncio.Task[Any]"
    started: bool = False
    """Its model has been called, or it has a result to publish."""


@dataclass(slots=True)
class _Cooldown(Generic[T]):
    """What is passed over until an instant."""

    until: dict[T, float] = field(default_factory=dict)

    def add(self, key: T, seconds: float) -> None:
        self.until[key] = max(self.until.get(key, 0.0), monotonic() + seconds)

    def active(self) -> set[T]:
        self.until = {key: until for key, until in self.until.items() if until > monotonic()}
        return set(self.until)


class Worker:
    """Runs jobs in one process."""

    def __init__(
        self,
        settings: EvaluatorSettings,
        *,
        jobs: JobQueue,
        contexts: RunContexts,
        runner: ItemRunner,
        publisher: ResultPublisher,
        appender: Appender,
        providers: Sequence[str],
    ) -> None:
        """`providers` are what this worker offers."""
        self._settings = settings
        self._jobs, self._contexts, self._runner, self._publisher = jobs, contexts, runner, publisher
        self._appender, self._providers = appender, providers
        self.wake_up = asyncio.Event()
        """Set when there may be something to claim."""
        self.heartbeat_due = asyncio.Event()
        """Set when a run may have ended, and its jobs have to be given up."""
        self.workers = 1
        """How many workers were alive at the last heartbeat."""
        self._active: dict[JobKey, _ActiveJob] = {}
        self._resting_providers: _Cooldown[str] = _Cooldown()
        self._unavailable_runs: _Cooldown[Run] = _Cooldown()
        self._leases_renewed_at = monotonic()

    @property
    def heartbeat_seconds(self) -> float:
        """The time between two heartbeats."""
        return min(self._settings.heartbeat_seconds, self._settings.lease_seconds / 4)

    async def claim_jobs(self) -> None:
        """Claim jobs until cancelled. Servers that are away are no reason to stop."""
        while True:
            self.wake_up.clear()
            claimed = False
            try:
                claimed = await self._claim()
            except Exception as error:
                log.warning("nothing can be claimed", error=f"{type(error).__name__}: {error}"[:300])
                await asyncio.sleep(_POLL_SECONDS)
            await asyncio.sleep(_BETWEEN_CLAIMS_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, no secret
            if not claimed:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.wake_up.wait(), _POLL_SECONDS)

    async def send_heartbeats(self) -> None:
        """Keep the leases of active jobs until cancelled; jobs that are not this worker's any more are given up."""
        while True:
            self.heartbeat_due.clear()
            try:
                await self.heartbeat()
            except Exception as error:
                log.warning("no heartbeat", error=f"{type(error).__name__}: {error}"[:300])
                if monotonic() - self._leases_renewed_at > self._settings.lease_seconds:
                    self._give_up(self._active)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.heartbeat_due.wait(), self.heartbeat_seconds)

    async def heartbeat(self) -> None:
        """Renew leases, count the workers, and take care of the jobs of workers that are silent."""
        at, fences = monotonic(), {key: job.fence for key, job in self._active.items()}
        held = await self._jobs.renew_leases(fences)
        self._leases_renewed_at = at
        self._give_up(
            key for key, fence in fences.items() if key not in held and self._fence_of(key) == fence
        )  # fmt: skip
        self.workers = await self._jobs.heartbeat()
        if requeued := await self._jobs.requeue_expired():
            log.info("jobs of silent workers wait again", jobs=requeued)
            self.wake_up.set()
        await self._take_over_decided()
        metrics.WAITING.set(await self._jobs.count_queued())

    async def drain(self) -> None:
        """Let started jobs end, for the time of grace, and give back the others at once. Claiming has stopped."""
        self._give_up([key for key, job in self._active.items() if not job.started])
        if tasks := [job.task for job in self._active.values()]:
            await asyncio.wait(tasks, timeout=self._settings.grace_seconds)
        tasks = [job.task for job in self._active.values()]
        self._give_up(list(self._active))
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._jobs.release_all()
        except Exception as error:
            log.warning(
                "what is left is the others' when the lease ends", error=f"{type(error).__name__}: {error}"[:300]
            )

    async def _claim(self) -> bool:
        """Claim jobs and start them; False when there was nothing to claim, or no free slot."""
        free = self._settings.slots - len(self._active)
        if free <= 0 or self._appender.unavailable:
            return False
        slots_in_use = Counter(key.project_id for key in self._active)
        request = ClaimRequest(
            self._providers, self._resting_providers.active(), self._unavailable_runs.active(), slots_in_use
        )
        claimed = await self._jobs.claim(free, request)
        if not claimed:
            return False
        await failpoint("evaluator.claimed")
        contexts: dict[Run, RunContext] = {}
        for run in {job.key.run for job in claimed}:
            try:
                contexts[run] = await self._contexts.get(run)
            except RunUnavailableError as error:
                log.warning("this worker can't run it", project=run[0], run=run[1], reason=str(error))
                self._unavailable_runs.add(run, _RETRY_SECONDS)
        items = await self._contexts.items(claimed, contexts)
        for job in claimed:
            if (item := items.get(job.key)) is None:
                await self._jobs.reschedule(job, _RETRY_SECONDS, counts=False)
            else:
                self._start(job, self._run_job(job, contexts[job.key.run], item))
        return True

    async def _take_over_decided(self) -> None:
        for result in await self._jobs.take_over_decided(self._settings.slots):
            metrics.ADOPTED.inc()
            publishing = self._publish(result, is_decided=True)
            self._start(ClaimedJob(result.key, result.fence, 0), publishing, started=True)

    def _start(self, job: ClaimedJob, work: Coroutine[Any, Any, Any], *, started: bool = False) -> None:
        if before := self._active.pop(job.key, None):
            before.task.cancel()  # the job was lost, and is this worker's again under another fence
        task = asyncio.create_task(work)
        self._active[job.key] = _ActiveJob(job.fence, task, started)
        metrics.UNDER_WAY.set(len(self._active))

        def ended(task: "asyncio.Task[Any]") -> None:
            if (active := self._active.get(job.key)) and active.task is task:
                del self._active[job.key]
            metrics.UNDER_WAY.set(len(self._active))
            self.wake_up.set()
            if not task.cancelled() and (error := task.exception()):
                log.error(
                    "an item was left to the others", item=job.key.item_id, error=f"{type(error).__name__}: {error}"
                )

        task.add_done_callback(ended)

    async def _run_job(self, job: ClaimedJob, context: RunContext, item: RunItem) -> None:
        try:
            outcome = await self._attempt(job, context, item)
        except asyncio.CancelledError:
            with suppress(Exception):  # the lease ends in any case
                active = self._active.get(job.key)
                await self._jobs.reschedule(job, 0.0, counts=active is None or active.started)
            raise
        if outcome is None:
            return
        cost = task_usage(outcome).cost_picodollars + outcome.judges_picodollars
        result = DecidedResult(job.key, job.fence, item_events(context, item, outcome), cost)
        if await self._publish(result):
            metrics.ITEMS.labels("failed" if outcome.error else "answered").inc()

    async def _attempt(self, job: ClaimedJob, context: RunContext, item: RunItem) -> ItemOutcome | None:
        """Make an attempt at an item; returns None when the job was rescheduled."""
        provider, max_attempts = context.task.provider, self._settings.attempts
        if job.attempt > max_attempts:
            return exhausted_outcome(max_attempts, f"no worker came to an end with it in {max_attempts} attempts")
        try:
            return await self._runner.run_item(
                context, item, job.attempt, on_started=lambda: self._mark_started(job.key)
            )  # fmt: skip
        except CallDelayedError as error:
            if not isinstance(error, SpendingDelayedError):  # which concerns the project alone
                self._resting_providers.add(provider, error.seconds)
            await self._jobs.reschedule(job, error.seconds * random.uniform(1, 1.2), counts=False)  # noqa: S311
        except EvaluationDelayedError as error:
            log.warning("an item is evaluated later", run=job.key.run_id, item=job.key.item_id, reason=str(error))
            await self._jobs.reschedule(job, random.uniform(1, 2) * _RETRY_SECONDS, counts=False)  # noqa: S311
        except CapReachedError as error:
            log.info("a run ends", project=job.key.project_id, run=job.key.run_id, reason=str(error))
            await self._jobs.reschedule(job, _RETRY_SECONDS, counts=False)
            await self._jobs.end_run(job.key.run, EXPERIMENT_OUTCOME_BUDGET_SPENT, str(error))
        except TransientError as error:
            wait = backoff_seconds(job.attempt, retry_after=error.retry_after, chance=random.random)
            metrics.RETRIES.labels(provider).inc()
            log.info(
                "an item is tried again", run=job.key.run_id, item=job.key.item_id, attempt=job.attempt,
                reason=str(error)[:200], again_in=round(wait, 1),
            )  # fmt: skip
            await self._jobs.reschedule(job, wait, counts=True)
        except Exception as error:
            log.exception("an item could not be tried", run=job.key.run_id, item=job.key.item_id)
            if job.attempt >= max_attempts:
                return exhausted_outcome(max_attempts, f"{type(error).__name__}: {error}")
            wait = backoff_seconds(job.attempt, retry_after=None, chance=random.random)
            await self._jobs.reschedule(job, wait, counts=True)
        return None

    async def _publish(self, result: DecidedResult, *, is_decided: bool = False) -> bool:
        self._mark_started(result.key)
        return await self._publisher.publish(result, is_decided=is_decided)

    def _mark_started(self, key: JobKey) -> None:
        if job := self._active.get(key):
            job.started = True

    def _fence_of(self, key: JobKey) -> int | None:
        job = self._active.get(key)
        return job.fence if job else None

    def _give_up(self, keys: Iterable[JobKey]) -> None:
        for key in list(keys):
            if job := self._active.get(key):
                job.task.cancel()
