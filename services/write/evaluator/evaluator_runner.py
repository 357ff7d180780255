"""The evaluator runner runs the evaluators of an item, or of a run. One that fails or is late costs only itself."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import time_ns
from typing import Any

from lodestream_evals.evaluators import Answer, Case, Evaluator, EvaluatorError, Judged, Message, RunEvaluator, Tools
from lodestream_evals.items import run_evaluators
from lodestream_evals.prompt import ChatPrompt, TextPrompt

from services.write.evaluator.items import EvaluatorOutcome, event_id
from services.write.evaluator.model_calls import ModelCalls, backoff_seconds
from services.write.evaluator.prompts import PromptVersions
from services.write.evaluator.providers.provider import CallError, ModelRequest, TransientError
from services.write.evaluator.rate_limits import CallDelayedError
from services.write.evaluator.schema_validation import EvaluationDelayedError, SchemaUsage, SchemaValidator
from services.write.evaluator.spending import CapReachedError
from shared.spans.dialects.usage import totals
from shared.spans.pricing import cost_of, total_cost

_PICODOLLARS_PER_DOLLAR = 10**12
_MAX_CONCURRENT = 8
"""How many evaluators of one item run at a time: each holds the case, and may hold answers of judges."""
_MAX_ANSWER_BYTES = 64 * 1024
"""The longest answer of a judge: a verdict and its reasons."""


class EvaluationClock:
    """The time that an evaluator may take; it stands still while the evaluator waits for the turn of others."""

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self._timeout = timeout
        self._pauses, self._left = 0, 0.0
        self._ended = False

    def pause(self) -> Callable[[], None]:
        """Stop the clock. It goes on when every function that was returned for a pause has been called."""
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
        """The evaluator has ended: pauses have no effect any more."""
        self._ended = True

    @property
    def _is_running(self) -> bool:
        return not self._ended and not self._timeout.expired()


class EvaluatorRunner:
    """Runs the evaluators of one item, and adds up what their LLM judges cost."""

    def __init__(
        self,
        calls: ModelCalls,
        prompts: PromptVersions,
        schemas: SchemaValidator,
        names: Sequence[str | int],
        attempts: int,
    ) -> None:
        """`names` are the ids of project, run, item and repetition; `attempts` is how many each call of a judge has."""
        self._calls, self._prompts, self._schemas = calls, prompts, schemas
        self._names, self._attempts = names, attempts
        self._project_id = str(names[0])
        self._schema_usage = SchemaUsage()
        self.picodollars = 0
        """What the calls of judges have cost so far."""

    async def evaluate(self, evaluators: Sequence[Evaluator], case: Case, *, seconds: float) -> list[EvaluatorOutcome]:
        """Return the outcome of each evaluator, in order; those that can't evaluate a failed task are left out for one.

        `seconds` bounds each evaluator. Raises EvaluationDelayedError when the item has to be evaluated again later,
        and CapReachedError when the project may spend no more.
        """

        async def evaluate(evaluator: Evaluator) -> EvaluatorOutcome:
            return await self._evaluate(evaluator, case, seconds)

        return await run_evaluators(evaluators, evaluate, task_failed=bool(case.error), max_concurrent=_MAX_CONCURRENT)

    async def _evaluate(self, evaluator: Evaluator, case: Case, seconds: float) -> EvaluatorOutcome:
        started, evaluation, error = time_ns(), None, ""
        try:
            async with asyncio.timeout(seconds) as timeout:
                clock = EvaluationClock(timeout)
                tools = Tools(
                    ask=partial(self._ask_judge, clock),
                    prompt=self._find_prompt,
                    schema_problems=partial(self._schema_problems, clock),
                )
                try:
                    evaluation = await evaluator.evaluate(case, tools)
                finally:
                    clock.end()
        except EvaluationDelayedError:
            raise
        except TimeoutError:
            error = f"it took longer than {seconds:g} s"
        except EvaluatorError as failure:
            if isinstance(failure.__cause__, EvaluationDelayedError | CapReachedError):
                raise failure.__cause__ from None
            error = str(failure) or type(failure).__name__
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"[:1000]
        return EvaluatorOutcome(
            evaluator.name, evaluator.revision, evaluation, error, started, max(started, time_ns())
        )  # fmt: skip

    async def _schema_problems(
        self, clock: EvaluationClock, schema: str, value: str, *, formats: bool
    ) -> list[dict[str, str]]:
        """Validate a value; the processor time that it takes is bounded, and the evaluator's clock stands still."""
        resume = clock.pause()
        try:
            return await self._schemas.problems(self._project_id, self._schema_usage, schema, value, formats=formats)
        finally:
            resume()

    async def _ask_judge(
        self,
        clock: EvaluationClock,
        messages: Sequence[Message],
        *,
        provider: str,
        model: str,
        settings: Mapping[str, Any],
    ) -> Answer:
        """Call the model of an LLM judge, again while that may help; waiting for the provider stops the clock."""
        plain_messages = [dict(message) for message in messages]
        key, attempt = event_id(*self._names, "judge", model, repr([plain_messages, settings])), 1
        while True:
            request = ModelRequest(
                model=model, messages=plain_messages, settings=settings, key=key, attempt=attempt,
                max_answer_bytes=_MAX_ANSWER_BYTES,
            )  # fmt: skip
            resume = clock.pause()
            try:
                reply = await self._calls.call(self._project_id, provider, request, on_started=resume)
                break
            except CallDelayedError as error:
                await asyncio.sleep(error.seconds * random.uniform(1, 1.2))  # noqa: S311 - jitter
            except TransientError as error:
                if attempt >= self._attempts:
                    raise EvaluatorError(f"the judge did not answer in {attempt} attempts: {error}") from error
                await asyncio.sleep(backoff_seconds(attempt, retry_after=error.retry_after, chance=random.random))
                attempt += 1
            except CallError as error:
                raise EvaluatorError(f"the judge did not answer: {error}") from error
            except CapReachedError as error:
                raise EvaluatorError(str(error)) from error
            finally:
                resume()
        input_tokens, output_tokens, _ = totals(dict(reply.usage))
        cost = cost_of(reply.model, reply.usage)
        picodollars = total_cost(cost)
        self.picodollars += picodollars
        return Answer(
            text=reply.text,
            input_tokens=input_tokens if reply.usage else None,
            output_tokens=output_tokens if reply.usage else None,
            cost_usd=picodollars / _PICODOLLARS_PER_DOLLAR if cost is not None else None,
        )

    async def _find_prompt(self, name: str, version: int | None, label: str | None) -> TextPrompt | ChatPrompt:
        prompt = await self._prompts.find(self._project_id, name, version, label)
        if prompt is None:
            which = f"version {version}" if version else f"label {label or 'production'!r}"
            raise EvaluatorError(f"the project has no prompt {name!r} with {which}")
        return prompt


async def evaluate_run(evaluator: RunEvaluator, items: Sequence[Judged], seconds: float) -> EvaluatorOutcome:
    """Have a run-level evaluator evaluate the items of a run within so many seconds."""
    started, evaluation, error = time_ns(), None, ""
    try:
        async with asyncio.timeout(seconds):
            evaluation = await evaluator.evaluate(items)
    except TimeoutError:
        error = f"it took longer than {seconds:g} s"
    except EvaluatorError as failure:
        error = str(failure) or type(failure).__name__
    return EvaluatorOutcome(evaluator.name, evaluator.revision, evaluation, error, started, max(started, time_ns()))
