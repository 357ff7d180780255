"""The worker: claims jobs while it has slots, works on each in a task of its own, holds on to them by its heartbeat."""

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
from services.write.evaluator.backoff import pause
from services.write.evaluator.fold import Run
from services.write.evaluator.item_runner import Trying, given_up
from services.write.evaluator.items import Item, Opened, Tried
from services.write.evaluator.jobs import Claimed, Decision, Jobs, Key, Wanted
from services.write.evaluator.providers.provider import PassingError
from services.write.evaluator.publisher import Teller
from services.write.evaluator.rate_limits import TooFarError
from services.write.evaluator.result_events import events_of, usage_of
from services.write.evaluator.run_context import Runs, UnopenedError
from services.write.evaluator.schema_validation import JudgingDelayedError
from services.write.evaluator.spending import CapReachedError, NoRoomError
from shared.event_log.append import Appender
from shared.runtime.failpoints import failpoint
from shared.runtime.settings import EvaluatorSettings

log = structlog.get_logger()
T = TypeVar("T")

_LOOK_SECONDS = 0.5
_BETWEEN_CLAIMS = 0.02
_UNOPENED_SECONDS = 5.0


@dataclass(slots=True)
class _UnderWay:
    fence: int
    task: "asyncio.Task[Any]"
    begun: bool = False
    """A model has been asked, or there is a result to tell."""


@dataclass(slots=True)
class _Resting(Generic[T]):
    """What is left alone until an instant."""

    until: dict[T, float] = field(default_factory=dict)

    def add(self, what: T, seconds: float) -> None:
        self.until[what] = max(self.until.get(what, 0.0), monotonic() + seconds)

    def now(self) -> set[T]:
        self.until = {what: until for what, until in self.until.items() if until > monotonic()}
        return set(self.until)


class Worker:
    """One process's share of the work."""

    def __init__(
        self,
        settings: EvaluatorSettings,
        *,
        jobs: Jobs,
        runs: Runs,
        trying: Trying,
        teller: Teller,
        appender: Appender,
        providers: Sequence[str],
    ) -> None:
        """`providers`: what this worker offers."""
        self._settings = settings
        self._jobs, self._runs, self._trying, self._teller = jobs, runs, trying, teller
        self._appender = appender
        self.woken = asyncio.Event()
        """There may be something to claim."""
        self.turned = asyncio.Event()
        """A run may have ended: a heartbeat is due now."""
        self.workers = 1
        """How many there are, as last seen."""
        self._under_way: dict[Key, _UnderWay] = {}
        self._offered = providers
        self._resting: _Resting[str] = _Resting()
        self._unopened: _Resting[Run] = _Resting()
        self._held_at = monotonic()

    @property
    def heartbeat_seconds(self) -> float:
        """Between two heartbeats."""
        return min(self._settings.heartbeat_seconds, self._settings.lease_seconds / 4)

    async def claiming(self) -> None:
        """Claim until cancelled. Servers that are away are no reason to stop."""
        while True:
            self.woken.clear()
            busy = False
            try:
                busy = await self._claim()
            except Exception as error:
                log.warning("nothing can be claimed", error=f"{type(error).__name__}: {error}"[:300])
                await asyncio.sleep(_LOOK_SECONDS)
            await asyncio.sleep(_BETWEEN_CLAIMS * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, no secret
            if not busy:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.woken.wait(), _LOOK_SECONDS)

    async def beating(self) -> None:
        """Hold on to what is under way until cancelled; what is not ours any more is given up."""
        while True:
            self.turned.clear()
            try:
                await self.beat()
            except Exception as error:
                log.warning("no heartbeat", error=f"{type(error).__name__}: {error}"[:300])
                if monotonic() - self._held_at > self._settings.lease_seconds:
                    self._give_up(self._under_way)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.turned.wait(), self.heartbeat_seconds)

    async def beat(self) -> None:
        """One heartbeat: what is ours, who else is there, and what the silent have left."""
        at, fences = monotonic(), {key: its.fence for key, its in self._under_way.items()}
        held = await self._jobs.hold(fences)
        self._held_at = at
        self._give_up(
            key for key, fence in fences.items() if key not in held and self._fence_of(key) == fence
        )  # fmt: skip
        self.workers = await self._jobs.seen()
        if recovered := await self._jobs.recover():
            log.info("jobs of silent workers wait again", jobs=recovered)
            self.woken.set()
        await self._adopt()
        metrics.WAITING.set(await self._jobs.waiting())

    async def drain(self) -> None:
        """Let what has begun come to its end, for a while; give back the rest at once. Nothing is claimed meanwhile."""
        self._give_up([key for key, its in self._under_way.items() if not its.begun])
        if tasks := [its.task for its in self._under_way.values()]:
            await asyncio.wait(tasks, timeout=self._settings.grace_seconds)
        tasks = [its.task for its in self._under_way.values()]
        self._give_up(list(self._under_way))
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._jobs.leave()
        except Exception as error:
            log.warning(
                "what is left is the others' when the lease ends", error=f"{type(error).__name__}: {error}"[:300]
            )

    async def _claim(self) -> bool:
        """Claim and begin; False: there was nothing, or no room."""
        free = self._settings.slots - len(self._under_way)
        if free <= 0 or self._appender.unavailable:
            return False
        held = Counter(key.project_id for key in self._under_way)
        wanted = Wanted(self._offered, self._resting.now(), self._unopened.now(), held)
        claimed = await self._jobs.claim(free, wanted)
        if not claimed:
            return False
        await failpoint("evaluator.claimed")
        opened: dict[Run, Opened] = {}
        for run in {each.key.run for each in claimed}:
            try:
                opened[run] = await self._runs.open(run)
            except UnopenedError as why:
                log.warning("this worker can't run it", project=run[0], run=run[1], reason=str(why))
                self._unopened.add(run, _UNOPENED_SECONDS)
        items = await self._runs.items_of(claimed, opened)
        for each in claimed:
            if (item := items.get(each.key)) is None:
                await self._jobs.put_off(each, _UNOPENED_SECONDS, counts=False)
            else:
                self._begin(each, self._work(each, opened[each.key.run], item))
        return True

    async def _adopt(self) -> None:
        for decision in await self._jobs.adopt(self._settings.slots):
            metrics.ADOPTED.inc()
            self._begin(Claimed(decision.key, decision.fence, 0), self._tell(decision, decided=True), begun=True)

    def _begin(self, claimed: Claimed, work: Coroutine[Any, Any, Any], *, begun: bool = False) -> None:
        if before := self._under_way.pop(claimed.key, None):
            before.task.cancel()  # it was lost, and is ours again under another fence
        task = asyncio.create_task(work)
        self._under_way[claimed.key] = _UnderWay(claimed.fence, task, begun)
        metrics.UNDER_WAY.set(len(self._under_way))

        def ended(task: "asyncio.Task[Any]") -> None:
            if (its := self._under_way.get(claimed.key)) and its.task is task:
                del self._under_way[claimed.key]
            metrics.UNDER_WAY.set(len(self._under_way))
            self.woken.set()
            if not task.cancelled() and (error := task.exception()):
                log.error(
                    "an item was left to the others", item=claimed.key.item_id, error=f"{type(error).__name__}: {error}"
                )

        task.add_done_callback(ended)

    async def _work(self, claimed: Claimed, opened: Opened, item: Item) -> None:
        try:
            tried = await self._try(claimed, opened, item)
        except asyncio.CancelledError:
            with suppress(Exception):  # the lease ends in any case
                its = self._under_way.get(claimed.key)
                await self._jobs.put_off(claimed, 0.0, counts=its is None or its.begun)
            raise
        if tried is None:
            return
        cost = usage_of(tried).cost_picodollars + tried.judges_picodollars
        decision = Decision(claimed.key, claimed.fence, events_of(opened, item, tried), cost)
        if await self._tell(decision):
            metrics.ITEMS.labels("failed" if tried.error else "answered").inc()

    async def _try(self, claimed: Claimed, opened: Opened, item: Item) -> Tried | None:
        """What came of it; None: it was put off."""
        provider, most = opened.task.provider, self._settings.attempts
        if claimed.attempt > most:
            return given_up(most, f"no worker came to an end with it in {most} attempts")

        def begun() -> None:
            if its := self._under_way.get(claimed.key):
                its.begun = True

        try:
            return await self._trying(opened, item, claimed.attempt, begun=begun)
        except TooFarError as error:
            if not isinstance(error, NoRoomError):  # which is the project's alone
                self._resting.add(provider, error.seconds)
            await self._jobs.put_off(claimed, error.seconds * random.uniform(1, 1.2), counts=False)  # noqa: S311
        except JudgingDelayedError as error:
            log.warning("an item is judged later", run=claimed.key.run_id, item=claimed.key.item_id, reason=str(error))
            await self._jobs.put_off(claimed, random.uniform(1, 2) * _UNOPENED_SECONDS, counts=False)  # noqa: S311
        except CapReachedError as error:
            log.info("a run ends", project=claimed.key.project_id, run=claimed.key.run_id, reason=str(error))
            await self._jobs.put_off(claimed, _UNOPENED_SECONDS, counts=False)
            await self._jobs.end(claimed.key.run, EXPERIMENT_OUTCOME_BUDGET_SPENT, str(error))
        except PassingError as error:
            wait = pause(claimed.attempt, retry_after=error.retry_after, chance=random.random)
            metrics.RETRIES.labels(provider).inc()
            log.info(
                "an item is tried again", run=claimed.key.run_id, item=claimed.key.item_id, attempt=claimed.attempt,
                reason=str(error)[:200], again_in=round(wait, 1),
            )  # fmt: skip
            await self._jobs.put_off(claimed, wait, counts=True)
        except Exception as error:
            log.exception("an item could not be tried", run=claimed.key.run_id, item=claimed.key.item_id)
            if claimed.attempt >= most:
                return given_up(most, f"{type(error).__name__}: {error}")
            await self._jobs.put_off(
                claimed, pause(claimed.attempt, retry_after=None, chance=random.random), counts=True
            )
        return None

    async def _tell(self, decision: Decision, *, decided: bool = False) -> bool:
        if its := self._under_way.get(decision.key):
            its.begun = True
        return await self._teller.tell(decision, decided=decided)

    def _fence_of(self, key: Key) -> int | None:
        its = self._under_way.get(key)
        return its.fence if its else None

    def _give_up(self, keys: Iterable[Key]) -> None:
        for key in list(keys):
            if its := self._under_way.get(key):
                its.task.cancel()
