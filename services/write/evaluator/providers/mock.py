"""The mock provider: its answers, how long they take and whether they fail follow from a seed and the messages."""

import asyncio
import hashlib
import json
import random
from collections.abc import Mapping
from functools import partial
from typing import Any

from lodestream_evals.mock_model import MAX_ANSWER, MockPlanner, answer
from pydantic import ValidationError

from services.write.evaluator.providers.provider import ModelReply, ModelRequest, PermanentError, TransientError
from shared.runtime.settings import MockBehaviour

_BEHAVIOUR = frozenset(MockBehaviour.model_fields)
_MAX_INLINE_CHARACTERS = 20_000
"""The longest messages that are answered on the event loop; longer ones take a thread."""


class MockProvider:
    """Behaves as the call's settings say (`MockBehaviour`), and answers as the mock model's own endpoint does.

    All other settings change the answer, as they would that of a model. Whether an attempt fails follows from its
    number too, so that the next one may succeed.
    """

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Make one attempt at a request.

        Raises CallError, as often as the settings say.
        """
        behaviour = _behaviour(request.settings)
        messages = [
            {"role": str(each.get("role", "")), "content": _text(each.get("content"))} for each in request.messages
        ]
        parameters = {name: value for name, value in request.settings.items() if name not in _BEHAVIOUR}
        facts = [request.model, behaviour.seed, messages, parameters]
        always, this_attempt = _chance(facts), _chance([*facts, request.attempt])
        if this_attempt.random() < behaviour.rate_limit_rate:
            raise TransientError("429: too many requests", retry_after=behaviour.retry_after_seconds)
        is_refused, fails = always.random() < behaviour.refusal_rate, this_attempt.random() < behaviour.error_rate
        model = MockPlanner(
            request.model,
            seed=behaviour.seed,
            reply=partial(
                answer,
                response_format=request.settings.get("response_format"),
                seed=behaviour.seed,
                max_characters=min(MAX_ANSWER, request.max_answer_bytes),
            ),
            first_token_seconds=behaviour.first_token_seconds,
            tokens_per_second=behaviour.tokens_per_second,
        )
        try:
            if sum(len(each["content"]) for each in messages) <= _MAX_INLINE_CHARACTERS:
                plan = model.plan(messages, parameters)
            else:
                plan = await asyncio.to_thread(model.plan, messages, parameters)
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise PermanentError(f"400: settings.response_format can't be followed: {error}") from None
        seconds = plan.seconds
        if behaviour.latency_seconds is not None:
            seconds = behaviour.latency_seconds * (1 + always.uniform(-1, 1) * behaviour.latency_jitter)
        await asyncio.sleep(seconds / behaviour.speed)
        if is_refused:
            raise PermanentError("400: the mock model refuses this question")
        if fails:
            raise TransientError("503: the model is overloaded", retry_after=behaviour.retry_after_seconds)
        usage = plan.usage()
        return ModelReply(
            text=plan.text, model=request.model, usage={"input": usage["input"], "output": usage["output"]}
        )  # fmt: skip

    async def aclose(self) -> None:
        """Do nothing: there are no connections."""


def _behaviour(settings: Mapping[str, Any]) -> MockBehaviour:
    try:
        return MockBehaviour.model_validate({name: settings[name] for name in _BEHAVIOUR if name in settings})
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise PermanentError(f"400: settings.{first['loc'][0]}: {first['msg']}") from None


def _chance(facts: list[Any]) -> random.Random:
    text = json.dumps(facts, sort_keys=True, default=str)
    return random.Random(hashlib.sha256(text.encode("utf-8", "replace")).digest())  # noqa: S311 - to be repeatable


def _text(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, default=str)
