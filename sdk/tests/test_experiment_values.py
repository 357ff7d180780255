"""Whatever tasks and evaluators return, the server takes what is told of it."""

import datetime as dt
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lodestream import Evaluation, ItemResult
from lodestream._experiments.messages import (
    evaluation_message,
    outcome_from,
    result_from,
    result_message,
    storable_json,
    storable_object,
    storable_text,
)
from lodestream._experiments.recording import Usage
from lodestream._experiments.rows import Row
from lodestream._recording.masking import unmasked
from lodestream._results import EvaluatorOutcome

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


def deepest(value: Any) -> int:
    if isinstance(value, dict | list):
        return 1 + max(map(deepest, value.values() if isinstance(value, dict) else value), default=0)
    return 0


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=20) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 3), inner, max_size=4)
        | st.frozensets(st.integers(), max_size=3)
    ),
    max_leaves=12,
)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), "readers would not agree which of two counts"
    return dict(pairs)


@given(ANYTHING)
def test_any_value_is_json_that_the_server_takes(value: Any) -> None:
    text = storable_json(value)
    text.encode()
    assert deepest(json.loads(text, object_pairs_hook=unique)) <= 64


@given(ANYTHING)
def test_any_metadata_is_an_object_that_databases_take(value: Any) -> None:
    text = storable_object(value)
    assert "\\u0000" not in text or "\\\\u0000" in text
    assert text == "" or isinstance(json.loads(text), dict)


@pytest.mark.parametrize("depth", [50, 100, 900, 5_000])
def test_what_is_too_deep_is_cut(depth: int) -> None:
    assert deepest(json.loads(storable_json(nested(depth)))) <= 61


def test_what_is_too_large_is_left_out() -> None:
    assert json.loads(storable_object({"text": "x" * 100_000})) == {"note": "left out: 100011 bytes are too many"}
    assert storable_text("ab\0\ud800" * 10, 5) == "ab\ufffd?…"


@pytest.mark.parametrize(
    "evaluation",
    [
        Evaluation(name="n", value=0.5, comment="half", metadata={"a": [1]}),
        Evaluation(name="n", value=True),
        Evaluation(name="n", value="good", comment="so it is"),
        Evaluation(name="n", value="in words", data_type="TEXT"),
        Evaluation(name="n", value=1, data_type="BOOLEAN"),
    ],
)
def test_an_evaluation_comes_back_as_it_went(evaluation: Evaluation) -> None:
    said = EvaluatorOutcome(name="n", evaluation=evaluation, revision="r", score_id="s")
    assert outcome_from(evaluation_message(said, unmasked)) == said


def test_an_item_comes_back_as_it_went() -> None:
    row = Row(id="i", given={"input": 1}, input=1, expected_output=[2], metadata={"a": 1})
    result = ItemResult(
        item=row.given, item_id="i", repetition=3, input=1, expected_output=[2], metadata={"a": 1},
        output={"b": [None]}, judgements=[EvaluatorOutcome(name="n", error="E: failed", revision="r")],
        trace_id="0" * 31 + "7",
        started_at=NOW, latency=1.5, input_tokens=3, output_tokens=4, cost_usd=0.25,
    )  # fmt: skip
    assert result_from(result_message(result, "r", unmasked, with_item=True), row) == result


def test_a_mountain_of_remarks_is_cut() -> None:
    said = [
        EvaluatorOutcome(name=f"n{n}", evaluation=Evaluation(name=f"n{n}", value=1, comment="x" * 16_000))
        for n in range(300)
    ]
    result = ItemResult(item=1, item_id="i", judgements=said, started_at=NOW, latency=0)
    message = result_message(result, "r", unmasked, with_item=False)
    assert message.ByteSize() < 1_500_000
    assert len(message.evaluations) == 300


def test_usage_counts_what_is_a_number() -> None:
    usage = Usage()
    usage.add({"gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 7})
    usage.add({"lodestream.observation.usage_details": '{"input": "many", "output": -3}'})
    usage.add({"lodestream.observation.usage_details": "no json", "lodestream.observation.cost_details": "[]"})
    usage.add({"lodestream.observation.usage_details": json.dumps({"input_tokens": math.inf})})
    assert (usage.input_tokens, usage.output_tokens, usage.cost_usd) == (5, 7, None)
