"""A model without a model: what it answers, how long that takes and whether it fails follow from seed and messages."""

import asyncio
import hashlib
import json
import random
from collections.abc import Mapping
from typing import Any

from lodestream.mock import answer, count_tokens

from services.write.evaluator.providers.provider import LastingError, PassingError, Question, Reply

_MESSAGE_TOKENS = 4  # what a chat format adds to each message


class MockProvider:
    """Settings of a call that it knows; all others only vary the seed.

    `seed`; `latency_seconds` (default 0) and `latency_jitter`, a share of it; `error_rate` and `rate_limit_rate`,
    shares of the tries that fail with a server error or with too many requests, the latter with `retry_after_seconds`
    if given; `refusal_rate`, a share of the questions that are refused for good.
    """

    async def ask(self, question: Question) -> Reply:
        """Ask once.

        Raises CallError, as often as the settings say.
        """
        settings = question.settings
        lasting, passing = _chance(question, with_attempt=False), _chance(question, with_attempt=True)
        latency = _number(settings, "latency_seconds") * (
            1 + lasting.uniform(-1, 1) * _number(settings, "latency_jitter")
        )
        refused = lasting.random() < _number(settings, "refusal_rate")
        fails, limited = (passing.random() < _number(settings, name) for name in ("error_rate", "rate_limit_rate"))
        if limited:
            raise PassingError("429: too many requests", retry_after=_number(settings, "retry_after_seconds") or None)
        await asyncio.sleep(max(0.0, latency))
        if refused:
            raise LastingError("400: the request is refused")
        if fails:
            raise PassingError("503: the model is overloaded")
        texts = [
            {"role": str(each.get("role", "")), "content": _text(each.get("content"))} for each in question.messages
        ]
        try:
            text = answer(texts, _format(settings), _seed(settings))
        except ValueError as error:
            raise LastingError(f"400: {error}") from None
        usage = {
            "input": sum(count_tokens(each["content"]) + _MESSAGE_TOKENS for each in texts),
            "output": count_tokens(text),
        }
        return Reply(text=text, model=question.model, usage=usage)

    async def aclose(self) -> None:
        """Nothing is open."""


def _chance(question: Question, *, with_attempt: bool) -> random.Random:
    attempt = question.attempt if with_attempt else 0
    told = json.dumps([question.model, question.settings, question.messages, attempt], sort_keys=True, default=str)
    return random.Random(hashlib.sha256(told.encode("utf-8", "replace")).digest())  # noqa: S311 - to be repeatable


def _number(settings: Mapping[str, Any], name: str) -> float:
    value = settings.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 3600:
        raise LastingError(f"settings.{name}: {value!r:.100} is no number from 0 to 3600")
    return float(value)


def _format(settings: Mapping[str, Any]) -> Mapping[str, Any] | None:
    told = settings.get("response_format")
    return told if isinstance(told, dict) else None


def _seed(settings: Mapping[str, Any]) -> int:
    seed = settings.get("seed")
    return seed if isinstance(seed, int) else 0


def _text(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, default=str)
