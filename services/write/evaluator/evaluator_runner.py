"""What evaluators say of an item. One that fails, or takes too long, costs only itself."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import time_ns
from typing import Any

from lodestream import ChatPrompt, TextPrompt
from lodestream.evaluators import Answer, Case, Evaluator, EvaluatorError, Message, Tools

from services.write.evaluator.backoff import pause
from services.write.evaluator.identity import event_id
from services.write.evaluator.items import Said
from services.write.evaluator.model_calls import Calls
from services.write.evaluator.prompts import Prompts
from services.write.evaluator.providers.provider import CallError, PassingError, Question
from services.write.evaluator.rate_limits import TooFarError
from services.write.evaluator.schema_validation import ItemSchemas, JudgingDelayedError, Schemas
from services.write.evaluator.spending import CapReachedError
from shared.read_model.dialects.usage import totals
from shared.read_model.pricing import cost_of, total_cost

_DOLLAR = 10**12
_AT_ONCE = 8
"""Evaluators of one item under way at a time: each holds the case, and may hold answers of judges."""
_MAX_ANSWER_BYTES = 64 * 1024
"""Of a judge's answer: a verdict and its reasons."""


class EvaluationClock:
    """The time that an evaluator may take; what it waits for the turn of others is not counted."""

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self._timeout = timeout
        self._pauses, self._left = 0, 0.0
        self._ended = False

    def pause(self) -> Callable[[], None]:
        """Stop the time; it goes on when all that was returned for pauses has been called."""
        resumed = False
        if not self._pauses and self._is_running:
            deadline = self._timeout.when()
            assert deadline is not None
            self._left = deadline - asyncio.get_running_loop().time()
            self._timeout.reschedule(None)
        self._pauses += 1

        def resume() -> None:
            nonlocal resumed
            if resumed:
                return
            resumed = True
            self._pauses -= 1
            if not self._pauses and self._is_running:
                self._timeout.reschedule(asyncio.get_running_loop().time() + self._left)

        return resume

    def end(self) -> None:
        """The evaluator has come to its end; later pauses are none."""
        self._ended = True

    @property
    def _is_running(self) -> bool:
        return not self._ended and not self._timeout.expired()


@dataclass(slots=True)
class Judges:
    """The outside world for the evaluators of one item, and what it cost."""

    calls: Calls
    prompts: Prompts
    schemas: Schemas
    names: Sequence[str | int]
    """Project, run, item and repetition."""
    attempts: int
    """Of a call of a judge's."""
    picodollars: int = field(default=0, init=False)
    item_schemas: ItemSchemas = field(default_factory=ItemSchemas, init=False)

    async def evaluate(self, evaluators: Sequence[Evaluator], case: Case, *, seconds: float) -> list[Said]:
        """What each says, in order; those that can't judge a task that failed are not asked about one.

        Raises JudgingDelayedError when the item has to be judged again later, CapReachedError when the project may
        spend no more.
        """
        asked = [each for each in evaluators if each.judges_failures or not case.error]
        turn = asyncio.Semaphore(_AT_ONCE)

        async def evaluate(evaluator: Evaluator) -> Said:
            async with turn:
                await asyncio.sleep(0)  # most never wait: heartbeats and other items have their turn in between
                return await self._evaluate(evaluator, case, seconds)

        outcomes = await asyncio.gather(*map(evaluate, asked), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, Said)]

    async def _evaluate(self, evaluator: Evaluator, case: Case, seconds: float) -> Said:
        started, evaluation, error = time_ns(), None, ""
        try:
            async with asyncio.timeout(seconds) as timeout:
                clock = EvaluationClock(timeout)
                tools = Tools(
                    ask=partial(self._ask, clock),
                    prompt=self._prompt,
                    schema_problems=partial(self._schema_problems, clock),
                )
                try:
                    evaluation = await evaluator.evaluate(case, tools)
                finally:
                    clock.end()
        except JudgingDelayedError:
            raise
        except TimeoutError:
            error = f"it took longer than {seconds:g} s"
        except EvaluatorError as failed:
            if isinstance(failed.__cause__, JudgingDelayedError | CapReachedError):
                raise failed.__cause__ from None
            error = str(failed) or type(failed).__name__
        except Exception as failed:
            error = f"{type(failed).__name__}: {failed}"[:1000]
        return Said(evaluator.name, evaluator.revision, evaluation, error, started, max(started, time_ns()))

    async def _schema_problems(
        self, clock: EvaluationClock, schema: str, value: str, *, formats: bool
    ) -> list[dict[str, str]]:
        """Bounded by the processor time that it takes, not by the clock."""
        resume = clock.pause()
        try:
            return await self.schemas.problems(str(self.names[0]), self.item_schemas, schema, value, formats=formats)
        finally:
            resume()

    async def _ask(
        self,
        clock: EvaluationClock,
        messages: Sequence[Message],
        *,
        provider: str,
        model: str,
        settings: Mapping[str, Any],
    ) -> Answer:
        """Ask a judge, again while that may help; the evaluator's time bounds it, but for waiting for a place."""
        told = [dict(each) for each in messages]
        key, attempt = event_id(*self.names, "judge", model, repr([told, settings])), 1
        while True:
            question = Question(
                model=model, messages=told, settings=settings, key=key, attempt=attempt,
                max_answer_bytes=_MAX_ANSWER_BYTES,
            )  # fmt: skip
            resume = clock.pause()
            try:
                reply = await self.calls.ask(str(self.names[0]), provider, question, begun=resume)
                break
            except TooFarError as error:
                await asyncio.sleep(error.seconds * random.uniform(1, 1.2))  # noqa: S311 - jitter
            except PassingError as error:
                if attempt >= self.attempts:
                    raise EvaluatorError(f"the judge did not answer in {attempt} attempts: {error}") from error
                await asyncio.sleep(pause(attempt, retry_after=error.retry_after, chance=random.random))
                attempt += 1
            except CallError as error:
                raise EvaluatorError(f"the judge did not answer: {error}") from error
            except CapReachedError as error:
                raise EvaluatorError(str(error)) from error
            finally:
                resume()
        sent, produced, _ = totals(dict(reply.usage))
        cost = cost_of(reply.model, reply.usage)
        picodollars = total_cost(cost)
        self.picodollars += picodollars
        return Answer(
            text=reply.text,
            input_tokens=sent if reply.usage else None,
            output_tokens=produced if reply.usage else None,
            cost_usd=picodollars / _DOLLAR if cost is not None else None,
        )

    async def _prompt(self, name: str, version: int | None, label: str | None) -> TextPrompt | ChatPrompt:
        found = await self.prompts.find(str(self.names[0]), name, version, label)
        if found is None:
            which = f"version {version}" if version else f"label {label or 'production'!r}"
            raise EvaluatorError(f"the project has no prompt {name!r} with {which}")
        return found
