"""POST /v1/chat/completions: the answer or tool calls, at once or token by token as server-sent events."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from lodestream_evals.mock_model import MockPlanner, Plan, answer, tokens_of
from starlette.responses import JSONResponse, Response, StreamingResponse

from services.mock_llm.behaviour import chance
from services.mock_llm.calls import Call
from services.mock_llm.errors import overloaded, too_many, wrong
from services.mock_llm.messages import Question
from services.mock_llm.tools import Rule, ToolCall, reply_to
from shared.runtime.settings import MockBehaviour


@dataclass(frozen=True, slots=True)
class Answering:
    """An answer and the times it takes."""

    question: Question
    plan: Plan
    first_seconds: float
    piece_seconds: float
    calls: Sequence[ToolCall]
    """The tools that are called instead of an answer; the pieces are those of their arguments."""

    @property
    def pieces(self) -> list[str]:
        """As many as were asked for at most; tool calls are never cut."""
        return list(self.plan.pieces if self.calls else self.plan.pieces[: self.question.most_tokens])

    @property
    def finish_reason(self) -> str:
        """Whether it calls tools, or was cut."""
        if self.calls:
            return "tool_calls"
        return "stop" if len(self.pieces) == len(self.plan.pieces) else "length"

    @property
    def usage(self) -> dict[str, int]:
        """In OpenAI's words."""
        usage = self.plan.usage(len(self.pieces))
        return {
            "prompt_tokens": usage["input"], "completion_tokens": usage["output"], "total_tokens": usage["total"],
        }  # fmt: skip


async def complete(question: Question, behaviour: MockBehaviour, call: Call, rules: Sequence[Rule]) -> Response:
    """The response; a stream begins with its first token. Raises ApiError, as often as `behaviour` says."""
    facts = (question.model, behaviour.seed, question.messages, question.parameters)
    this_try, always = chance(*facts, call.attempt), chance(*facts)
    if this_try.random() < behaviour.rate_limit_rate:
        raise too_many(behaviour.retry_after_seconds)
    refused, fails = always.random() < behaviour.refusal_rate, this_try.random() < behaviour.error_rate
    answering = _answering(question, behaviour, rules, stretch=1 + always.uniform(-1, 1) * behaviour.latency_jitter)
    await asyncio.sleep(answering.first_seconds)
    if refused:
        raise wrong("messages", "the mock model refuses this question")
    if fails:
        raise overloaded(question.model, behaviour.retry_after_seconds)
    head = {"id": f"chatcmpl-{_fingerprint(facts)}", "created": int(time.time()), "model": question.model}
    if question.stream:
        return StreamingResponse(_events(answering, head, call), media_type="text/event-stream")
    await asyncio.sleep(answering.piece_seconds * len(answering.pieces))
    message: dict[str, Any] = {"role": "assistant", "content": "".join(answering.pieces), "refusal": None}
    if answering.calls:
        message |= {"content": None, "tool_calls": [each.as_message() for each in answering.calls]}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answering.finish_reason}
    call.status = 200
    return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": answering.usage})


def _answering(question: Question, behaviour: MockBehaviour, rules: Sequence[Rule], *, stretch: float) -> Answering:
    decided = reply_to(question, rules)
    reply: Callable[..., str] = partial(answer, response_format=question.response_format, seed=behaviour.seed)
    if decided.calls or decided.content is not None:
        said = decided.content or "".join(each.arguments for each in decided.calls)
        reply = lambda _messages: said  # noqa: E731
    model = MockPlanner(
        question.model,
        seed=behaviour.seed,
        reply=reply,
        first_token_seconds=behaviour.first_token_seconds,
        tokens_per_second=behaviour.tokens_per_second,
    )
    try:
        plan = model.plan(question.messages, question.parameters)
    except ValueError as error:
        raise wrong("response_format", str(error)) from None
    first, piece = plan.first_seconds, plan.piece_seconds
    if behaviour.latency_seconds is not None:
        first, piece = behaviour.latency_seconds * stretch, 0.0
    return Answering(question, plan, first / behaviour.speed, piece / behaviour.speed, decided.calls)


async def _events(answering: Answering, head: Mapping[str, Any], call: Call) -> AsyncIterator[bytes]:
    def event(delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _event({**chunk, "choices": [choice]})

    asked_usage = answering.question.include_usage
    chunk = {**head, "object": "chat.completion.chunk", **({"usage": None} if asked_usage else {})}
    yield event({"role": "assistant", "content": "", "refusal": None})
    if answering.calls:
        for place, each in enumerate(answering.calls):
            begun = each.as_message() | {"function": {"name": each.name, "arguments": ""}}
            yield event({"tool_calls": [{"index": place, **begun}]})
            for piece in tokens_of(each.arguments):
                await asyncio.sleep(answering.piece_seconds)
                yield event({"tool_calls": [{"index": place, "function": {"arguments": piece}}]})
    else:
        for piece in answering.pieces:
            await asyncio.sleep(answering.piece_seconds)
            yield event({"content": piece})
    yield event({}, answering.finish_reason)
    if asked_usage:
        yield _event({**chunk, "choices": [], "usage": answering.usage})
    call.status = 200
    yield b"data: [DONE]\n\n"


def _event(told: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(told) + b"\n\n"


def _fingerprint(facts: tuple[Any, ...]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:24]
