"""What of a score, a retraction and a config is refused, by the name of the field; and how the rest is kept."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lodestream_proto.v1.score_event_pb2 import (
    SCORE_SOURCE_ANNOTATION,
    SCORE_SOURCE_API,
    SCORE_TYPE_BOOLEAN,
    SCORE_TYPE_CATEGORICAL,
    SCORE_TYPE_NUMERIC,
    SCORE_TYPE_TEXT,
    ScoreCategory,
    ScoreRecorded,
    ScoreTarget,
    ScoreValue,
)

from services.write.gateway.scores import check_retraction, kept_config, kept_score
from shared.runtime.refusal import InvalidError
from tests.support.scores import config, retraction, score, trace

CATEGORIES = [ScoreCategory(label="bad", value=-1), ScoreCategory(label="good", value=1)]
CONFIGS = {
    "range": config("range", min_value=0, max_value=1),
    "labels": config("labels", type=SCORE_TYPE_CATEGORICAL, categories=CATEGORIES),
    "bool": config("bool", type=SCORE_TYPE_BOOLEAN),
    "words": config("words", type=SCORE_TYPE_TEXT),
    "old": config("old", archived=True),
}


def words(text: str, **fields: Any) -> ScoreRecorded:
    told = score("s", **fields)
    told.value.CopyFrom(ScoreValue(text=text))
    return told


def worthless() -> ScoreRecorded:
    told = score("s")
    told.ClearField("value")
    return told


@pytest.mark.parametrize(
    ("field", "reason", "told"),
    [
        ("score_id", "has 256 characters; at most 255", score("x" * 256)),
        ("score_id", "control character", score("a\nb")),
        ("name", "is missing", score("s", name="")),
        ("name", "at most 200", score("s", name="n" * 201)),
        ("target", "has none of", score("s", target=ScoreTarget(session_id=""))),
        ("target", "session_id and run_id", score("s", target=ScoreTarget(session_id="a", run_id="b"))),
        ("target.span_id", "without the trace_id", score("s", target=ScoreTarget(span_id=bytes(8)))),
        ("target.trace_id", "3 bytes instead of 16", score("s", target=ScoreTarget(trace_id=b"abc"))),
        ("target.trace_id", "all zeros", score("s", target=ScoreTarget(trace_id=bytes(16)))),
        ("target.span_id", "9 bytes", score("s", target=ScoreTarget(trace_id=b"t" * 16, span_id=b"s" * 9))),
        ("target.span_id", "all zeros", score("s", target=ScoreTarget(trace_id=b"t" * 16, span_id=bytes(8)))),
        ("target.session_id", "at most 255", score("s", target=ScoreTarget(session_id="s" * 256))),
        ("target.run_id", "NUL", score("s", target=ScoreTarget(run_id="a\0"))),
        ("value", "is missing", worthless()),
        ("value.numeric", "nan is no number", score("s", float("nan"))),
        ("value.numeric", "inf is no number", score("s", float("inf"))),
        ("value.numeric", "-inf is no number", score("s", float("-inf"))),
        ("value.categorical", "is missing", score("s", "")),
        ("value.categorical", "at most 200", score("s", "x" * 201)),
        ("value.text", "is missing", words("")),
        ("value.text", "has 501 characters; at most 500", words("x" * 501)),
        ("value.text", "NUL", words("a\0b")),
        ("source", "9 is no source", score("s", source=9)),
        ("comment", "at most 16384", score("s", comment="c" * 16_385)),
        ("author", "at most 255", score("s", author="a" * 256)),
        ("evaluator_version", "control", score("s", evaluator_version="a\tb")),
        ("environment", "at most 255", score("s", environment="e" * 256)),
        ("metadata_json", "is no JSON: ", score("s", metadata_json="{")),
        ("metadata_json", "is no JSON object", score("s", metadata_json="[1]")),
        ("metadata_json", "has 65538 bytes", score("s", metadata_json='"' + "x" * 65_536 + '"')),
        ("config_id", "the project has no config 'nowhere'", score("s", config_id="nowhere")),
        ("config_id", "at most 255", score("s", config_id="c" * 256)),
        ("config_id", "config 'old' is archived", score("s", config_id="old")),
        ("name", "config 'range' is for scores called 'quality'", score("s", name="other", config_id="range")),
        ("value.boolean", "config 'range' takes numeric values", score("s", value=True, config_id="range")),
        ("value.numeric", "config 'labels' takes categorical values", score("s", 1.0, config_id="labels")),
        ("value.text", "config 'bool' takes boolean values", words("x", config_id="bool")),
        ("value.categorical", "config 'words' takes text values", score("s", "x", config_id="words")),
        ("value.numeric", "-0.1 is below 0, the least of config 'range'", score("s", -0.1, config_id="range")),
        ("value.numeric", "1.5 is above 1, the most of config 'range'", score("s", 1.5, config_id="range")),
        ("value.categorical", "none of the categories of config 'labels': 'bad'", score("s", "so", config_id="labels")),
    ],
)
def test_a_score_is_refused_by_the_name_of_the_field(field: str, reason: str, told: ScoreRecorded) -> None:
    with pytest.raises(InvalidError) as refused:
        kept_score(told, "event", CONFIGS)
    assert refused.value.field == f"score_recorded.{field}"
    assert reason in refused.value.why


@pytest.mark.parametrize(
    "told",
    [
        score("s", 0.0, config_id="range"),
        score("s", 1.0, config_id="range"),
        score("s", value=False, config_id="bool"),
        words("x" * 500, config_id="words"),
        score("s", -1e300, metadata_json='{"a": [1]}', comment="two\nlines"),
        score("s", target=trace(1, 2)),
        score("s", target=ScoreTarget(session_id="é" * 255)),
        score("s", target=ScoreTarget(run_id="r")),
    ],
)
def test_what_can_be_taken_is_kept_as_it_is(told: ScoreRecorded) -> None:
    assert kept_score(told, "event", CONFIGS) == told


def test_what_is_left_out_is_filled_in() -> None:
    kept = kept_score(score("", "good", name="", source=0, config_id="labels"), "event", CONFIGS)
    assert (kept.score_id, kept.name, kept.source, kept.category_value) == ("event", "quality", SCORE_SOURCE_API, 1.0)
    annotated = kept_score(score("s", source=SCORE_SOURCE_ANNOTATION), "event", {})
    assert annotated.source == SCORE_SOURCE_ANNOTATION


def test_the_value_of_a_category_is_the_configs_alone() -> None:
    assert kept_score(score("s", "bad", config_id="labels", category_value=7), "e", CONFIGS).category_value == -1
    assert not kept_score(score("s", "bad", category_value=7), "e", CONFIGS).HasField("category_value")


@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_taken_exactly_when_it_is_in_the_range(number: float) -> None:
    try:
        taken = bool(kept_score(score("s", number, config_id="range"), "e", CONFIGS))
    except InvalidError:
        taken = False
    assert taken == (0 <= number <= 1)


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("score_id", retraction("")),
        ("target", retraction("s", target=ScoreTarget(run_id="r", session_id="s"))),
        ("reason", retraction("s", reason="x" * 16_385)),
    ],
)
def test_a_retraction_is_refused_by_the_name_of_the_field(field: str, told: Any) -> None:
    with pytest.raises(InvalidError, match=rf"score_retracted\.{field}"):
        check_retraction(told)
    check_retraction(retraction("s", reason="a mistake"))


@pytest.mark.parametrize(
    ("field", "reason", "fields"),
    [
        ("config_id", "at most 255", {"config_id": "c" * 256}),
        ("name", "is missing", {"name": ""}),
        ("description", "NUL", {"description": "\0"}),
        ("type", "is none of", {"type": 0}),
        ("type", "is none of", {"type": 17}),
        ("min_value", "nan is no number", {"min_value": float("nan")}),
        ("max_value", "is not above min_value, 2", {"min_value": 2.0, "max_value": 2.0}),
        ("min_value", "only numeric", {"type": SCORE_TYPE_BOOLEAN, "min_value": 0.0}),
        ("categories", "only categorical", {"categories": CATEGORIES}),
        ("categories", "are 0; 1 to 200", {"type": SCORE_TYPE_CATEGORICAL}),
        (
            "categories[1].label",
            "'bad' is there twice",
            {"type": SCORE_TYPE_CATEGORICAL, "categories": [CATEGORIES[0], CATEGORIES[0]]},
        ),
        (
            "categories[0].value",
            "inf is no number",
            {"type": SCORE_TYPE_CATEGORICAL, "categories": [ScoreCategory(label="a", value=float("inf"))]},
        ),
        (
            "categories[0].label",
            "is missing",
            {"type": SCORE_TYPE_CATEGORICAL, "categories": [ScoreCategory(value=1)]},
        ),
    ],
)
def test_a_config_is_refused_by_the_name_of_the_field(field: str, reason: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidError) as refused:
        kept_config(config(**{"config_id": "c", **fields}), "event")
    assert refused.value.field == f"score_config_defined.{field}"
    assert reason in refused.value.why


def test_a_config_without_an_id_has_the_events() -> None:
    assert kept_config(config("", type=SCORE_TYPE_NUMERIC, max_value=0.5), "event").config_id == "event"
