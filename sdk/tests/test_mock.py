"""The mock model: the same messages get the same answer."""

import json
import math
import tracemalloc
from typing import Any

import pytest
from lodestream import get_client
from lodestream.mock import MockModel, MockModelError, answer
from lodestream.testing import captured

MESSAGES = [
    {"role": "system", "content": "# Refunds\nRefunds take five days. Kettles are blue. Returned goods are free."},
    {"role": "user", "content": "How long do refunds take?"},
]


def model(**settings):
    return MockModel(speed=math.inf, **settings)


def test_the_same_seed_and_messages_get_the_same_answer_time_and_tokens():
    with captured():
        first, again, other = model(seed=1).chat(MESSAGES), model(seed=1).chat(MESSAGES), model(seed=2).chat(MESSAGES)
    assert first == again
    assert first.seconds != other.seconds
    assert first.text.startswith("Refunds take five days.")
    assert first.usage["total"] == first.usage["input"] + first.usage["output"]
    assert 0 < first.time_to_first_token < first.seconds


def test_calls_are_observed_as_generations():
    with captured() as told:
        answer = model().chat(MESSAGES, name="answer", temperature=0.2)
    span = told.named("answer")
    assert (span.type, span.input) == ("generation", MESSAGES)
    assert span.output == {"role": "assistant", "content": answer.text}
    assert span.attributes["lodestream.observation.model.name"] == "mock-large"
    assert span.attributes["lodestream.observation.model.parameters"] == '{"temperature":0.2}'
    assert "lodestream.observation.completion_start_time" in span.attributes


async def test_streams_say_the_same_token_by_token():
    with captured() as told:
        whole = model().chat(MESSAGES)
        assert (await model().achat(MESSAGES)).text == whole.text
        assert "".join(model().stream(MESSAGES)) == whole.text
        assert "".join([piece async for piece in model().astream(MESSAGES)]) == whole.text
    outputs = [span.output["content"] for span in told.spans]
    assert outputs == [whole.text] * 4


def test_a_stream_that_is_left_is_told_as_far_as_it_went():
    with captured() as told:
        pieces = model().stream(MESSAGES)
        said = next(pieces) + next(pieces)
        assert get_client().get_current_trace_id() is None
        pieces.close()
    assert told.named("mock-large").output == {"role": "assistant", "content": said}
    assert told.named("mock-large").attributes["lodestream.observation.usage_details"].startswith('{"input":')


def test_some_calls_fail_always_the_same_ones():
    flaky = model(error_rate=0.5)

    def fails(number):
        try:
            flaky.chat([{"role": "user", "content": str(number)}])
        except MockModelError:
            return True
        return False

    with captured() as told:
        failed = [fails(number) for number in range(40)]
        assert failed == [fails(number) for number in range(40)]
    assert 8 < sum(failed) < 32
    assert [span.level == "ERROR" for span in told.spans[:40]] == failed


@pytest.mark.parametrize(
    "wrong", [{"speed": 0}, {"error_rate": 2}, {"tokens_per_second": 0}, {"first_token_seconds": -1}]
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="speed"):
        MockModel(**wrong)


def test_a_plan_tells_what_a_call_comes_to_and_nobody_hears_of_it():
    with captured() as told:
        plan = model(seed=1).plan(MESSAGES, {})
        assert not told.spans
        whole = model(seed=1).chat(MESSAGES)
    assert (plan.text, plan.usage(), plan.seconds) == (whole.text, whole.usage, whole.seconds)


def test_json_that_is_asked_for_satisfies_its_schema():
    schema = {
        "type": "object",
        "properties": {
            "kind": {"const": "refund"},
            "days": {"type": "integer", "minimum": 3, "maximum": 9},
            "sure": {"type": ["boolean", "null"]},
            "words": {"type": "array", "items": {"type": "string"}, "minItems": 2},
            "grade": {"enum": ["bad", "good"]},
            "inner": {"properties": {"text": {}}},
        },
    }
    response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    told = json.loads(answer(MESSAGES, response_format))
    quoted = answer(MESSAGES)
    assert told == {
        "kind": "refund", "days": 9, "sure": True, "words": [quoted] * 2, "grade": "good", "inner": {"text": quoted},
    }  # fmt: skip
    assert json.loads(answer(MESSAGES, {"type": "json_object"})) == {"answer": quoted}
    endless: dict[str, Any] = {"properties": {}}
    endless["properties"]["again"] = endless
    assert answer(MESSAGES, {"type": "json_schema", "json_schema": {"schema": endless}}).count("again") == 8


@pytest.mark.parametrize(
    "schema",
    [{"properties": 7}, {"type": "number", "minimum": "x"}, {"type": "array", "minItems": {}}, {"enum": {"a": 1}}],
)
def test_a_format_that_cannot_be_followed_is_refused(schema):
    with pytest.raises(ValueError, match="the response format can't be followed"):
        answer(MESSAGES, {"type": "json_schema", "json_schema": {"schema": schema}})


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {f"p{n}": {"type": "string"} for n in range(20_000)}},
        {"type": "array", "minItems": 10, "items": {"type": "array", "minItems": 10, "items": {}}},
        {"properties": {f"p{n}": {"const": ["x" * 1_000]} for n in range(1_000)}},
        {"properties": {"p" * 300_000: {"type": "null"}}},
    ],
    ids=["properties", "arrays", "constants", "names"],
)
def test_an_answer_that_would_be_too_long_is_refused_before_it_is_built(schema: dict[str, Any]) -> None:
    """Each of these, filled with a text of 99 KB, would have megabytes to gigabytes."""
    messages = [{"role": "system", "content": "It takes fourteen " * 5_500}, {"role": "user", "content": "fourteen"}]
    response_format = {"type": "json_schema", "json_schema": {"schema": schema}}
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="would have more than 262,144 characters"):
            answer(messages, response_format)
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_a_quotation_keeps_to_the_length_that_is_asked_for() -> None:
    with pytest.raises(ValueError, match="more than 10 characters"):
        answer(MESSAGES, max_characters=10)
    assert answer(MESSAGES, max_characters=1_000)
