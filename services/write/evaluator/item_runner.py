"""One try of one item: compile, ask, judge."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import time_ns
from typing import Any

from lodestream.evaluators import Case

from services.write.evaluator.compiling import QuestionTooLongError, VariableError, messages_of
from services.write.evaluator.evaluator_runner import Judges
from services.write.evaluator.identity import event_id
from services.write.evaluator.items import Item, Opened, Tried
from services.write.evaluator.model_calls import Calls
from services.write.evaluator.prompts import Prompts
from services.write.evaluator.providers.provider import LastingError, Message, PassingError, Question, Reply
from services.write.evaluator.result_events import usage_of
from services.write.evaluator.schema_validation import Schemas
from shared.runtime.failpoints import failpoint

_DOLLAR = 10**12
_MAX_ERROR = 2_000


class Trying:
    """How this worker tries items."""

    def __init__(
        self, calls: Calls, prompts: Prompts, schemas: Schemas, *, attempts: int, evaluation_seconds: float
    ) -> None:
        self._calls, self._prompts, self._schemas = calls, prompts, schemas
        self._attempts, self._evaluation_seconds = attempts, evaluation_seconds

    async def __call__(self, opened: Opened, item: Item, attempt: int, *, begun: Callable[[], None]) -> Tried:
        """What came of it; `begun` is called when the model is.

        Raises PassingError when it should be tried again and there are attempts left, TooFarError when the provider has
        no place soon, JudgingDelayedError when it can't be judged soon, and CapReachedError when the project may spend
        no more.
        """
        messages: Sequence[Message] | None = None
        reply, error = None, ""
        started = time_ns()

        def now() -> None:
            nonlocal started
            started = time_ns()
            begun()

        try:
            messages = messages_of(opened.prompt, json.loads(item.input))
            reply = await self._ask(opened, item, messages, attempt, now)
        except (VariableError, QuestionTooLongError, LastingError) as failed:
            error = str(failed)
        except PassingError as failed:
            if attempt < self._attempts:
                raise
            error = f"after {attempt} attempts: {failed}"
        ended = max(started, time_ns())  # a clock may be set back
        await failpoint("evaluator.answered")
        tried = Tried(
            messages=messages,
            reply=reply,
            error=error[:_MAX_ERROR],
            attempts=attempt,
            started_ns=started,
            ended_ns=ended,
        )
        return await self._judged(opened, item, tried)

    async def _ask(
        self, opened: Opened, item: Item, messages: Sequence[Message], attempt: int, begun: Callable[[], None]
    ) -> Reply:
        task = opened.task
        question = Question(
            model=task.model,
            messages=messages,
            settings=task.settings,
            key=event_id(*opened.run, item.item_id, item.repetition, "question"),
            attempt=attempt,
        )
        return await self._calls.ask(opened.run[0], task.provider, question, begun=begun)

    async def _judged(self, opened: Opened, item: Item, tried: Tried) -> Tried:
        names = (*opened.run, item.item_id, item.repetition)
        judges = Judges(self._calls, self._prompts, self._schemas, names, self._attempts)
        said = await judges.evaluate(opened.evaluators, case_of(item, tried), seconds=self._evaluation_seconds)
        return replace(tried, said=said, judges_picodollars=judges.picodollars)


def given_up(attempts: int, error: str) -> Tried:
    """An item whose tries are used up, with nothing to show for it."""
    now = time_ns()
    return Tried(messages=None, reply=None, error=error[:_MAX_ERROR], attempts=attempts, started_ns=now, ended_ns=now)


def case_of(item: Item, tried: Tried) -> Case:
    """What evaluators see of an item."""
    usage = usage_of(tried)
    used = tried.reply is not None and bool(tried.reply.usage)
    cost = usage.cost_picodollars / _DOLLAR if usage.HasField("cost_picodollars") else None
    return Case(
        input=json.loads(item.input),
        output=None if tried.reply is None else tried.reply.text,
        expected_output=json.loads(item.expected_output) if item.expected_output else None,
        metadata=_object(item.metadata),
        error=tried.error,
        latency_seconds=(tried.ended_ns - tried.started_ns) / 1e9,
        input_tokens=usage.input_tokens if used else None,
        output_tokens=usage.output_tokens if used else None,
        cost_usd=cost,
    )


def _object(text: str) -> dict[str, Any]:
    told = json.loads(text) if text else {}
    return told if isinstance(told, dict) else {}
