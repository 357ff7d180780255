"""`Evaluation`: what can be said, and how the returns of users' functions are read."""

import decimal
import enum
import math
from collections import namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lodestream import Evaluation, InvalidEvaluationError


def said(returned, name="helpful"):
    [evaluation] = Evaluation.of(name, returned)
    return evaluation


class Grade(enum.StrEnum):
    GOOD = "good"


@dataclass
class Reasoned:
    """As the returns of other libraries are made."""

    value: bool
    reason: str


Scored = namedtuple("Scored", ["score", "explanation"])  # noqa: PYI024 - as users write it


@pytest.mark.parametrize(
    ("returned", "value", "data_type"),
    [
        (True, True, "BOOLEAN"),
        (3, 3, "NUMERIC"),
        (0.25, 0.25, "NUMERIC"),
        (decimal.Decimal("0.5"), 0.5, "NUMERIC"),
        ("polite", "polite", "CATEGORICAL"),
        (Grade.GOOD, "good", "CATEGORICAL"),
        (SimpleNamespace(item=lambda: 0.5), 0.5, "NUMERIC"),
        (SimpleNamespace(item=lambda: True), True, "BOOLEAN"),
        ({"score": 1}, 1, "NUMERIC"),
        ({"label": "polite"}, "polite", "CATEGORICAL"),
        ({"value": 1, "data_type": "BOOLEAN"}, True, "BOOLEAN"),
        ({"value": "a remark", "data_type": "TEXT"}, "a remark", "TEXT"),
        (("polite", None), "polite", "CATEGORICAL"),
    ],
)
def test_values_are_read_for_what_they_are(returned, value, data_type):
    evaluation = said(returned)
    assert (evaluation.name, evaluation.value, evaluation.data_type) == ("helpful", value, data_type)
    assert type(evaluation.value) is type(value)


@pytest.mark.parametrize(
    "returned",
    [
        (True, "it says so"),
        {"score": True, "comment": "it says so"},
        {"value": True, "explanation": "it says so"},
        {"value": True, "reason": "it says so"},
        Reasoned(True, "it says so"),
        Scored(True, "it says so"),
        Evaluation(name="helpful", value=True, comment="it says so"),
    ],
)
def test_reasons_are_found_in_each_shape(returned):
    assert said(returned) == Evaluation(name="helpful", value=True, comment="it says so")


def test_what_else_a_dict_says_is_kept():
    evaluation = said(
        {"key": "tone", "score": 0.5, "label": "dry", "tokens": 7, "metadata": {"by": "ada"}, "config_id": "tone"}
    )
    assert evaluation == Evaluation(
        name="tone", value=0.5, metadata={"label": "dry", "tokens": 7, "by": "ada"}, config_id="tone"
    )


def test_lists_are_several_evaluations():
    assert Evaluation.of("tone", []) == []
    several = Evaluation.of("tone", [True, {"name": "length", "score": 3}, Evaluation(name="words", value="few")])
    assert [(each.name, each.value) for each in several] == [("tone", True), ("length", 3), ("words", "few")]
    with pytest.raises(InvalidEvaluationError, match="'tone' is returned more than once"):
        Evaluation.of("tone", [True, False])


@pytest.mark.parametrize(
    ("returned", "field", "told"),
    [
        (None, "value", "nothing"),
        (object(), "value", "type object"),
        (math.nan, "value", "not a finite number"),
        (-math.inf, "value", "not a finite number"),
        (10**400, "value", "not a finite number"),
        (1j, "value", "type complex"),
        ("", "value", "empty"),
        ("x" * 201, "value", "201 characters"),
        ("two\nlines", "value", "control character at 3"),
        ({}, "value", "this one has nothing"),
        ({"verdict": "good"}, "value", "this one has verdict"),
        ({"score": 1, "value": 2}, "value", "same as score"),
        ({"score": 1, "reason": "a", "comment": "b"}, "reason", "same as comment"),
        ({"score": 1, "comment": 7}, "comment", "type int"),
        ({"score": 1, "metadata": "x"}, "metadata", "type str"),
        ({"score": "high", "data_type": "NUMERIC"}, "value", "no number"),
        ({"score": 2, "data_type": "BOOLEAN"}, "value", "neither true nor false"),
        ({"score": 1, "data_type": "FLOAT"}, "data_type", "none of NUMERIC"),
        ({"score": 1, "name": 7}, "name", "type int"),
        ({"score": 1, "config_id": ""}, "config_id", "empty"),
        ((1, "why", "more"), "value", "3 parts"),
        ([[1]], "value", "type list"),
    ],
)
def test_what_is_no_evaluation_is_refused_by_field(returned, field, told):
    with pytest.raises(InvalidEvaluationError, match=told) as refused:
        Evaluation.of("helpful", returned)
    assert refused.value.field == field


def test_long_and_odd_comments_are_taken_as_far_as_the_server_takes_them():
    long = said((True, "x" * 20_000)).comment
    assert len(long) == 16_384
    assert long.endswith("… (20,000 characters)")
    assert said((True, "a\0b\ud800")).comment == "a\ufffdb?"


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["score", "value", "label", "comment", "name", "metadata", "data_type", "else"]), inner, max_size=4),
    max_leaves=8,
))  # fmt: skip
def test_anything_is_an_evaluation_or_refused_in_words(returned):
    try:
        evaluations = Evaluation.of("any", returned)
    except InvalidEvaluationError as error:
        assert error.field  # noqa: PT017
        return
    for evaluation in evaluations:
        assert Evaluation.of("any", evaluation) == [evaluation]
