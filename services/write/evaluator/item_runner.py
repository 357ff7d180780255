"""The item runner makes one attempt at one item: compile the prompt, call the model, evaluate the output."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from time import time_ns
from typing import Any

from lodestream_evals.evaluators import Case
from lodestream_evals.items import run_task

from services.write.evaluator.evaluator_runner import EvaluatorRunner
from services.write.evaluator.items import ItemOutcome, RunItem, event_id
from services.write.evaluator.model_calls import ModelCalls
from services.write.evaluator.prompts import PromptTooLongError, PromptVersions, VariableError, compile_messages
from services.write.evaluator.providers.provider import (
    Message,
    ModelReply,
    ModelRequest,
    PermanentError,
    TransientError,
)
from services.write.evaluator.result_events import task_usage
from services.write.evaluator.run_context import RunContext
from services.write.evaluator.schema_validation import SchemaValidator
from shared.runtime.failpoints import failpoint

_PICODOLLARS_PER_DOLLAR = 10**12
_MAX_ERROR = 2_000


class ItemRunner:
    """Runs items for this worker."""

    def __init__(
        self,
        calls: ModelCalls,
        prompts: PromptVersions,
        schemas: SchemaValidator,
        *,
        attempts: int,
        evaluation_seconds: float,
    ) -> None:
        """`attempts` is how many an item has; `evaluation_seconds` bounds each of its evaluators."""
        self._calls, self._prompts, self._schemas = calls, prompts, schemas
        self._attempts, self._evaluation_seconds = attempts, evaluation_seconds

    async def run_item(
        self, context: RunContext, item: RunItem, attempt: int, *, on_started: Callable[[], None]
    ) -> ItemOutcome:
        """Make an attempt (counted from 1) at an item; `on_started` is called when the model is.

        Raises TransientError when another attempt may succeed and is left, CallDelayedError when the provider can't be
        called soon, EvaluationDelayedError when the output can't be evaluated soon, and CapReachedError when the
        project may spend no more.
        """
        messages: Sequence[Message] | None = None

        async def call(restart_clock: Callable[[], None]) -> ModelReply:
            def begin() -> None:
                restart_clock()
                on_started()

            nonlocal messages
            messages = compile_messages(context.prompt, json.loads(item.input))
            return await self._call_model(context, item, messages, attempt, begin)

        task = await run_task(call, partial(self._explain, attempt))
        await failpoint("evaluator.answered")
        outcome = ItemOutcome(
            messages=messages,
            reply=task.output,
            error=task.error,
            attempts=attempt,
            started_ns=task.started_ns,
            ended_ns=task.ended_ns,
        )
        return await self._evaluate(context, item, outcome)

    def _explain(self, attempt: int, failure: Exception) -> str:
        """Say why an item ends with a failure of its task; raises the failure where the item does not."""
        if isinstance(failure, TransientError) and attempt >= self._attempts:
            return f"after {attempt} attempts: {failure}"[:_MAX_ERROR]
        if isinstance(failure, VariableError | PromptTooLongError | PermanentError):
            return str(failure)[:_MAX_ERROR]
        raise failure

    async def _call_model(
        self,
        context: RunContext,
        item: RunItem,
        messages: Sequence[Message],
        attempt: int,
        on_started: Callable[[], None],
    ) -> ModelReply:
        task = context.task
        request = ModelRequest(
            model=task.model,
            messages=messages,
            settings=task.settings,
            key=event_id(*item.names(context.run), "question"),
            attempt=attempt,
        )
        return await self._calls.call(context.run[0], task.provider, request, on_started=on_started)

    async def _evaluate(self, context: RunContext, item: RunItem, outcome: ItemOutcome) -> ItemOutcome:
        runner = EvaluatorRunner(self._calls, self._prompts, self._schemas, item.names(context.run), self._attempts)
        case = evaluation_case(item, outcome)
        evaluators = await runner.evaluate(context.evaluators, case, seconds=self._evaluation_seconds)
        return replace(outcome, evaluators=evaluators, judges_picodollars=runner.picodollars)


def exhausted_outcome(attempts: int, error: str) -> ItemOutcome:
    """The outcome of an item whose attempts are used up without a reply or an error of the model's."""
    now = time_ns()
    return ItemOutcome(
        messages=None, reply=None, error=error[:_MAX_ERROR], attempts=attempts, started_ns=now, ended_ns=now
    )


def evaluation_case(item: RunItem, outcome: ItemOutcome) -> Case:
    """What evaluators see of an item."""
    usage = task_usage(outcome)
    has_usage = outcome.reply is not None and bool(outcome.reply.usage)
    return Case(
        input=json.loads(item.input),
        output=None if outcome.reply is None else outcome.reply.text,
        expected_output=json.loads(item.expected_output) if item.expected_output else None,
        metadata=_object(item.metadata),
        error=outcome.error,
        latency_seconds=(outcome.ended_ns - outcome.started_ns) / 1e9,
        input_tokens=usage.input_tokens if has_usage else None,
        output_tokens=usage.output_tokens if has_usage else None,
        cost_usd=usage.cost_picodollars / _PICODOLLARS_PER_DOLLAR if usage.HasField("cost_picodollars") else None,
    )


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text) if text else {}
    return value if isinstance(value, dict) else {}
