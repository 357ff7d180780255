"""A model for demos and tests: the same messages get the same answer, after a time and for tokens as a real one's.

    model = MockModel("mock-large", seed=7)
    answer = model.chat([{"role": "user", "content": "How long does a refund take?"}])
    answer.text, answer.usage, answer.time_to_first_token

Its calls are observed as generations, as those of a real model would be by its instrumentation.
"""

import asyncio
import datetime as dt
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lodestream_evals.mock_model import (
    MAX_ANSWER,
    Message,
    MockPlanner,
    Plan,
    Reply,
    answer,
    count_tokens,
    quote,
    tokens_of,
)

from lodestream._client import get_client
from lodestream._recording.span import CurrentObservation, Observation

__all__ = [
    "MAX_ANSWER",
    "Completion",
    "Message",
    "MockModel",
    "MockModelError",
    "Plan",
    "Reply",
    "answer",
    "count_tokens",
    "quote",
    "tokens_of",
]


class MockModelError(Exception):
    """The failure that was asked for with `error_rate`."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered."""

    text: str
    model: str
    usage: Mapping[str, int]
    """Tokens: input, output, total."""
    time_to_first_token: float
    """Seconds."""
    seconds: float
    """Seconds that the whole answer takes."""


class MockModel:
    """Deterministic: what it answers, how long it takes and whether it fails depend on `seed` and the messages only."""

    def __init__(
        self,
        name: str = "mock-large",
        *,
        seed: int = 0,
        reply: Reply | None = None,
        first_token_seconds: float = 0.15,
        tokens_per_second: float = 250.0,
        error_rate: float = 0.0,
        speed: float = 1.0,
    ) -> None:
        """Make a model.

        Args:
            name: The model's name.
            seed: Another seed gives other times and failures.
            reply: Makes the text of the messages. Default: what was said before and fits the last message best is
                quoted.
            first_token_seconds: Seconds until the first token, without reading the prompt.
            tokens_per_second: How fast tokens come after that.
            error_rate: The share of messages whose calls raise MockModelError, 0 to 1.
            speed: Divides all times that are waited for, not those that are reported; float("inf") waits for nothing.

        Raises:
            ValueError: A number is out of its range.
        """
        if tokens_per_second <= 0 or speed <= 0 or not 0 <= error_rate <= 1 or first_token_seconds < 0:
            raise ValueError(
                "tokens_per_second and speed are above 0, first_token_seconds 0 or more, error_rate 0 to 1"
            )
        self.name, self.seed = name, seed
        self._planner = MockPlanner(
            name,
            seed=seed,
            reply=reply or quote,
            first_token_seconds=first_token_seconds,
            tokens_per_second=tokens_per_second,
            error_rate=error_rate,
        )
        self._speed = speed

    def chat(
        self, messages: Sequence[Message], *, name: str | None = None, prompt: Any = None, **parameters: Any
    ) -> Completion:
        """Answer messages at once.

        Args:
            messages: Mappings with "role" and "content".
            name: The observation's name. Default: the model's.
            prompt: What the messages were made with.
            **parameters: Temperature and the like; they are recorded.

        Returns:
            The answer, its tokens and its times.

        Raises:
            MockModelError: The failure that was asked for with `error_rate`.
        """
        plan = self.plan(messages, parameters)
        with self._generation(messages, name, prompt, parameters) as observation:
            time.sleep(plan.first_seconds / self._speed)
            self._begin(observation, plan)
            time.sleep((plan.seconds - plan.first_seconds) / self._speed)
            return self._complete(observation, plan)

    async def achat(
        self, messages: Sequence[Message], *, name: str | None = None, prompt: Any = None, **parameters: Any
    ) -> Completion:
        """Answer messages without blocking the event loop.

        Args:
            messages: As for `chat`.
            name: As for `chat`.
            prompt: As for `chat`.
            **parameters: As for `chat`.

        Returns:
            The answer, its tokens and its times.

        Raises:
            MockModelError: The failure that was asked for with `error_rate`.
        """
        plan = self.plan(messages, parameters)
        with self._generation(messages, name, prompt, parameters) as observation:
            await asyncio.sleep(plan.first_seconds / self._speed)
            self._begin(observation, plan)
            await asyncio.sleep((plan.seconds - plan.first_seconds) / self._speed)
            return self._complete(observation, plan)

    def stream(
        self, messages: Sequence[Message], *, name: str | None = None, prompt: Any = None, **parameters: Any
    ) -> Iterator[str]:
        """Answer messages token by token.

        Args:
            messages: As for `chat`.
            name: As for `chat`.
            prompt: As for `chat`.
            **parameters: As for `chat`.

        Yields:
            The pieces of the answer.

        Raises:
            MockModelError: The failure that was asked for with `error_rate`.
        """
        plan = self.plan(messages, parameters)
        with self._speaking(messages, name, prompt, parameters, plan) as (observation, sent):
            time.sleep(plan.first_seconds / self._speed)
            self._begin(observation, plan)
            for piece in plan.pieces:
                time.sleep(plan.piece_seconds / self._speed)
                sent.append(piece)
                yield piece

    async def astream(
        self, messages: Sequence[Message], *, name: str | None = None, prompt: Any = None, **parameters: Any
    ) -> AsyncIterator[str]:
        """Answer messages token by token, for `async for`.

        Args:
            messages: As for `chat`.
            name: As for `chat`.
            prompt: As for `chat`.
            **parameters: As for `chat`.

        Yields:
            The pieces of the answer.

        Raises:
            MockModelError: The failure that was asked for with `error_rate`.
        """
        plan = self.plan(messages, parameters)
        with self._speaking(messages, name, prompt, parameters, plan) as (observation, sent):
            await asyncio.sleep(plan.first_seconds / self._speed)
            self._begin(observation, plan)
            for piece in plan.pieces:
                await asyncio.sleep(plan.piece_seconds / self._speed)
                sent.append(piece)
                yield piece

    def plan(self, messages: Sequence[Message], parameters: Mapping[str, Any]) -> Plan:
        """Decide what a call comes to. Nothing is waited for, nothing is observed.

        Args:
            messages: As for `chat`.
            parameters: Temperature and the like.

        Returns:
            The answer in pieces, with its times.
        """
        return self._planner.plan(messages, parameters)

    def _begin(self, observation: Observation, plan: Plan) -> None:
        if plan.fails:
            raise MockModelError(f"{self.name} is overloaded")
        observation.update(completion_start_time=dt.datetime.now(dt.UTC))

    def _complete(self, observation: Observation, plan: Plan) -> Completion:
        _tell(observation, plan, plan.pieces)
        return Completion(plan.text, self.name, plan.usage(), plan.first_seconds, plan.seconds)

    def _generation(
        self, messages: Sequence[Message], name: str | None, prompt: Any, parameters: Mapping[str, Any]
    ) -> CurrentObservation:
        return get_client().start_as_current_observation(
            name=name or self.name, as_type="generation", input=messages, model=self.name, model_parameters=parameters,
            prompt=prompt,
        )  # fmt: skip

    @contextmanager
    def _speaking(
        self, messages: Sequence[Message], name: str | None, prompt: Any, parameters: Mapping[str, Any], plan: Plan
    ) -> Iterator[tuple[Observation, list[str]]]:
        """A generation, and a list for what was said of it; whoever stops listening is told of what was said till then.

        It is not current: between two pieces the caller does as it likes.
        """
        sent: list[str] = []
        observation = get_client().start_observation(
            name=name or self.name, as_type="generation", input=messages, model=self.name, model_parameters=parameters,
            prompt=prompt,
        )  # fmt: skip
        try:
            yield observation, sent
        except BaseException as error:
            observation.fail(error)
            raise
        finally:
            if sent:
                _tell(observation, plan, sent)
            observation.end()


def _tell(observation: Observation, plan: Plan, sent: Sequence[str]) -> None:
    content = {"role": "assistant", "content": "".join(sent)}
    observation.update(output=content, usage_details=plan.usage(len(sent)))
