"""The LLM judges of a worker: the mock gives verdicts, and each vote is a question of its own."""

from collections.abc import Callable
from typing import Any

import pytest
from lodestream.evaluators import Case, evaluator_of

from services.write.evaluator.evaluator_runner import EvaluatorRunner
from services.write.evaluator.providers.mock import MockProvider
from services.write.evaluator.providers.provider import ModelReply, ModelRequest, PermanentError

JUDGE = {"kind": "llm_judge", "rubric": "Is it right?", "provider": "mock", "model": "mock-large"}


class RecordedCalls:
    """Calls that go straight to the mock, and are remembered."""

    def __init__(self) -> None:
        self.questions: list[ModelRequest] = []
        self._mock = MockProvider()

    async def call(self, _project: str, _: str, request: ModelRequest, *, on_started: Callable[[], None]) -> ModelReply:
        on_started()
        self.questions.append(request)
        return await self._mock.complete(request)


async def judged(calls: RecordedCalls, output: str, **settings: Any) -> Any:
    runner: Any = EvaluatorRunner(calls, None, None, ["project", "run", "item", 0], attempts=1)  # type: ignore[arg-type]
    case = Case(input="How long?", output=output, expected_output="It takes 14 working days.")
    [outcome] = await runner.evaluate([evaluator_of({**JUDGE, **settings})], case, seconds=10)
    assert outcome.error == ""
    return outcome.evaluation.value


async def test_the_mock_judges_by_the_words_of_what_is_expected() -> None:
    assert await judged(RecordedCalls(), "Within 14 working days it takes place.") is True
    assert await judged(RecordedCalls(), "I do not know.") is False
    assert await judged(RecordedCalls(), "I do not know.", scale={"min": 1, "max": 5}) == 1


async def test_each_vote_has_a_key_of_its_own_and_the_same_when_asked_again() -> None:
    first, again = RecordedCalls(), RecordedCalls()
    for calls in (first, again):
        await judged(calls, "Within 14 working days.", votes=3)
    keys = [question.key for question in first.questions]
    assert len(set(keys)) == 3
    assert keys == [question.key for question in again.questions]


async def test_a_format_that_cannot_be_followed_is_refused_for_good() -> None:
    settings = {"response_format": {"type": "json_schema"}}
    question = ModelRequest(
        model="m", messages=[{"role": "user", "content": "x"}], settings=settings, key="", attempt=1
    )
    with pytest.raises(PermanentError, match="the response format can't be followed"):
        await MockProvider().complete(question)
