"""Events about datasets and runs that can't be taken are refused, by the field that is wrong; ids follow for ever."""

import json
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import (
    DatasetArchived,
    DatasetItemArchived,
    ExperimentBudget,
    ExperimentCancelled,
    ExperimentFinished,
    ExperimentPaused,
    ExperimentResumed,
    ExperimentUsage,
)

from shared.rules.experiment_ids import dataset_id_of, item_id_of, run_id_of
from shared.rules.experiments import CHECKS, MAX_RESULT_BYTES, subject_id_of
from shared.rules.json_texts import (
    MAX_DEPTH,
    canonical_json,
    check_json,
    count_json_values,
    is_same_json,
    json_depth,
)
from shared.runtime.refusal import InvalidError
from tests.support.experiments import PROMPT_TASK, dataset, evaluation, item, result, run

QUESTIONS = dataset_id_of("questions")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def kind_of(payload: Any) -> str:
    """The payload's name in Event."""
    fields = Event.DESCRIPTOR.oneofs_by_name["payload"].fields
    return next(field.name for field in fields if field.message_type == payload.DESCRIPTOR)


def check(payload: Any) -> None:
    """The check of an event with this payload."""
    CHECKS[kind := kind_of(payload)](payload, kind)


@pytest.mark.parametrize(
    "payload",
    [
        dataset(),
        dataset(
            "a/b c é", description="two\nlines", metadata_json='{"a": [1]}', input_schema_json="true", author="ada"
        ),
        item(),
        item("i" * 255, "null", expected_output_json="null", splits=["test", "hard"], metadata_json="{}"),
        item(input_json='"\\u0000"', source_trace_id=b"t" * 16, source_span_id=b"s" * 8),
        item(input_json="1" * 309 + ".5e-3"),
        DatasetItemArchived(dataset_id=QUESTIONS, item_id="i", author="ada"),
        DatasetArchived(dataset_id=QUESTIONS),
        run(),
        run(task_json=PROMPT_TASK, evaluators_json='[{"kind": "exact"}]', run_evaluators_json="[]", repetitions=100),
        run(dataset_id="", dataset_version=0),
        run(budget=ExperimentBudget(max_cost_usd=0.5, max_seconds=0), max_concurrency=1000, splits=["test"]),
        result(),
        result(trace_id=b"", output_json="", error="it broke", evaluations=[], attempts=5, repetition=99),
        result(evaluations=[evaluation(str(n), numeric=n / 7) for n in range(300)]),
        result(
            evaluations=[evaluation("a", categorical="good"), evaluation("b", text=""), evaluation("c", error="no")]
        ),
        result(output_json=json.dumps("x" * (MAX_RESULT_BYTES - 500))),
        result(started_at=Timestamp(seconds=5), ended_at=Timestamp(seconds=5)),
        result(input_json="[]", expected_output_json="{}", metadata_json='{"topic": "refunds"}'),
        ExperimentFinished(run_id="r", evaluations=[evaluation("pass_rate", numeric=0.5)]),
        ExperimentCancelled(run_id="r", reason="a mistake", author="ada"),
        ExperimentPaused(run_id="r"),
        ExperimentResumed(run_id="r", author="ada"),
    ],
)
def test_what_is_in_order_is_taken(payload: Any) -> None:
    check(payload)


@pytest.mark.parametrize(
    ("field", "reason", "payload"),
    [
        ("name", "is missing", dataset("")),
        ("name", "at most 255", dataset("n" * 256)),
        ("name", "control character", dataset("a\tb")),
        ("dataset_id", "does not follow from the name", dataset(dataset_id=dataset_id_of("other"))),
        ("description", "at most 16384", dataset(description="d" * 16_385)),
        ("metadata_json", "is no JSON object", dataset(metadata_json="[]")),
        ("metadata_json", "has a NUL", dataset(metadata_json='{"a": ["\\u0000"]}')),
        ("metadata_json", "has a NUL", dataset(metadata_json='{"a\\u0000": 1}')),
        ("metadata_json", "at most 65536", dataset(metadata_json=json.dumps({"a": "x" * 65_536}))),
        ("input_schema_json", "is no JSON", dataset(input_schema_json="{")),
        ("expected_output_schema_json", "at most 262144", dataset(expected_output_schema_json=" " * 262_145)),
        ("author", "at most 255", dataset(author="a" * 256)),
        ("", "at most 1048576", item(input_json=json.dumps("x" * 1_048_576))),
        ("dataset_id", "is no 32 hex digits", item(dataset_id="questions")),
        ("dataset_id", "is no 32 hex digits", item(dataset_id=QUESTIONS.upper())),
        ("item_id", "is missing", item("")),
        ("item_id", "has 256 characters; at most 255", item("x" * 256)),
        ("item_id", "has 256 bytes; at most 255", item("é" * 128)),
        ("item_id", "control character", item("a\nb")),
        ("input_json", "is missing", item(input_json="")),
        ("input_json", "is no JSON", item(input_json="NaN")),
        ("input_json", "is no JSON: number is infinity", item(input_json="1e999")),
        ("input_json", "is no JSON", item(input_json='"\\ud800"')),
        ("input_json", "has an object with 'a' twice", item(input_json='[{"a": 1, "b": {}, "a": 1}]')),
        ("input_json", "more than 64 lists", item(input_json="[" * 65 + "]" * 65)),
        ("input_json", "more than 64 lists", item(input_json="[" * 9000 + "]" * 9000)),
        ("expected_output_json", "is no JSON", item(expected_output_json="yes")),
        ("metadata_json", "is no JSON object", item(metadata_json="1")),
        ("source_trace_id", "has 3 bytes instead of 16", item(source_trace_id=b"abc")),
        ("source_span_id", "is all zeros", item(source_trace_id=b"t" * 16, source_span_id=bytes(8))),
        ("source_span_id", "is without", item(source_span_id=b"s" * 8)),
        ("splits", "are 51; at most 50", item(splits=map(str, range(51)))),
        ("splits[1]", "is missing", item(splits=["test", ""])),
        ("splits[0]", "at most 100", item(splits=["s" * 101])),
        ("item_id", "is missing", DatasetItemArchived(dataset_id=QUESTIONS)),
        ("dataset_id", "is no 32 hex digits", DatasetArchived()),
        ("run_id", "is missing", run("")),
        ("name", "is missing", run(name="")),
        ("task_json", "is missing", run(task_json="")),
        ("task_json", "is no JSON object", run(task_json='"sdk"')),
        ("task_json.kind", "is missing", run(task_json="{}")),
        ("task_json.kind", "'cron' is none of prompt, sdk", run(task_json='{"kind": "cron"}')),
        ("task_json.kind", "['sdk'] is none of", run(task_json='{"kind": ["sdk"]}')),
        ("evaluators_json", "is no JSON list", run(evaluators_json="{}")),
        ("evaluators_json[1]", "is no JSON object", run(evaluators_json='[{}, "exact"]')),
        ("run_evaluators_json", "are 301; at most 300", run(run_evaluators_json=json.dumps([{}] * 301))),
        ("dataset_id", "only a program", run(dataset_id="", dataset_version=0, task_json=PROMPT_TASK)),
        ("dataset_version", "is 0", run(dataset_version=0)),
        ("dataset_version", "is of a dataset", run(dataset_id="")),
        ("splits", "is of a dataset", run(dataset_id="", dataset_version=0, splits=["test"])),
        ("repetitions", "are 0; 1 to 100", run(repetitions=0)),
        ("repetitions", "are 101; 1 to 100", run(repetitions=101)),
        ("max_concurrency", "is 1001; 1 to 1000", run(max_concurrency=1001)),
        ("budget.max_cost_usd", "nan is no number", run(budget=ExperimentBudget(max_cost_usd=float("nan")))),
        ("budget.max_cost_usd", "-0.1 is below 0", run(budget=ExperimentBudget(max_cost_usd=-0.1))),
        ("budget.max_seconds", "inf is no number", run(budget=ExperimentBudget(max_seconds=float("inf")))),
        ("", "at most 1048576", run(description="x" * 1_048_577)),
        ("run_id", "is missing", result("")),
        ("item_id", "is missing", result(item_id="")),
        ("repetition", "is 100; at most 99", result(repetition=100)),
        ("trace_id", "has 2 bytes instead of 16", result(trace_id=b"ab")),
        ("output_json", "is no JSON", result(output_json="because")),
        ("", f"at most {MAX_RESULT_BYTES}", result(output_json=json.dumps("x" * MAX_RESULT_BYTES))),
        ("started_at", "is missing", result(started_at=None)),
        ("ended_at", "is missing", result(ended_at=None)),
        ("ended_at", "is not between the years", result(ended_at=Timestamp(seconds=253_402_300_800))),
        ("started_at", "is not between the years", result(started_at=Timestamp(nanos=-1))),
        ("ended_at", "is before started_at", result(started_at=Timestamp(seconds=1_700_000_001, nanos=1))),
        ("usage.input_tokens", "is above", result(usage=ExperimentUsage(input_tokens=2**63))),
        ("usage.cost_picodollars", "is above", result(usage=ExperimentUsage(cost_picodollars=2**64 - 1))),
        ("evaluations", "are 301", result(evaluations=[evaluation(str(n)) for n in range(301)])),
        ("evaluations[1].name", "'a' is there twice", result(evaluations=[evaluation("a"), evaluation("a", text="x")])),
        ("evaluations[0].name", "at most 200", result(evaluations=[evaluation("n" * 201)])),
        ("evaluations[0].value", "is missing", result(evaluations=[evaluation(comment="x")])),
        ("evaluations[0].numeric", "nan is no number", result(evaluations=[evaluation(numeric=float("nan"))])),
        ("evaluations[0].categorical", "is missing", result(evaluations=[evaluation(categorical="")])),
        ("evaluations[0].text", "at most 16384", result(evaluations=[evaluation(text="x" * 16_385)])),
        ("evaluations[0].metadata_json", "is no JSON", result(evaluations=[evaluation(text="", metadata_json="{")])),
        ("evaluations[0].score_id", "control", result(evaluations=[evaluation(text="", score_id="a\n")])),
        ("attempts", "are 1000001", result(attempts=1_000_001)),
        ("run_id", "is missing", ExperimentFinished()),
        ("outcome", "9 is no outcome", ExperimentFinished(run_id="r", outcome=9)),  # type: ignore[arg-type]
        ("evaluations[0].value", "is missing", ExperimentFinished(run_id="r", evaluations=[evaluation(comment="")])),
        ("reason", "at most 16384", ExperimentCancelled(run_id="r", reason="x" * 16_385)),
        ("run_id", "at most 255", ExperimentPaused(run_id="r" * 256)),
        ("author", "control", ExperimentResumed(run_id="r", author="a\n")),
    ],
)
def test_what_is_not_is_refused_by_the_name_of_the_field(field: str, reason: str, payload: Any) -> None:
    with pytest.raises(InvalidError) as refused:
        check(payload)
    assert refused.value.field == ".".join(filter(None, [kind_of(payload), field]))
    assert reason in refused.value.why


def test_every_event_about_datasets_and_runs_is_checked_and_has_a_subject() -> None:
    theirs = [
        field
        for field in Event.DESCRIPTOR.oneofs_by_name["payload"].fields
        if field.name.startswith(("dataset_", "experiment_"))
    ]
    assert {field.name for field in theirs} == CHECKS.keys()
    for field in theirs:
        subject = "dataset_id" if field.name.startswith("dataset_") else "run_id"
        payload = getattr(Event(), field.name)
        setattr(payload, subject, "its")
        assert subject_id_of(payload) == "its"
    assert subject_id_of(run("r")) == "r", "a request has a dataset's id as well"


def test_ids_are_for_ever() -> None:
    """Other languages and other years must come to the same; so these are written down."""
    assert dataset_id_of("questions") == "17d5efa695de036a7acb616c0b2c4db2"
    assert item_id_of('{"b": [1, 2.0], "a": "é"}', "") == "3f5a61ab18b56a94ec90cd90426288e3"
    assert run_id_of("d", "first") == "0f88302637a7c3d6175253402998e63c"


@given(value=JSON, expected=JSON)
def test_the_id_of_an_item_is_that_of_its_values_not_of_their_writing(value: Any, expected: Any) -> None:
    texts = [json.dumps(value), json.dumps(value, indent=2, sort_keys=True), canonical_json(value)]
    its = json.dumps(expected)
    assert len({item_id_of(text, its) for text in texts}) == 1
    assert item_id_of(texts[0], "") == item_id_of(texts[0], "null")
    assert all(is_same_json(texts[0], text) for text in texts)


@given(one=JSON, other=JSON)
def test_values_that_differ_have_other_ids(one: Any, other: Any) -> None:
    texts = json.dumps(one), json.dumps(other)
    assert is_same_json(*texts) == (canonical_json(one) == canonical_json(other))
    assert (item_id_of(texts[0], "") == item_id_of(texts[1], "")) == is_same_json(*texts)


@given(value=JSON)
def test_canonical_json_says_what_was_said(value: Any) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text


def test_to_say_nothing_is_not_to_say_null() -> None:
    assert not is_same_json("", "null")
    assert is_same_json("", "")


ODD_TEXT = st.text(st.sampled_from('[]{},:"\\\\/\n\té😀 a'))
ODD_JSON = st.recursive(
    st.none() | st.integers() | ODD_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ODD_TEXT, inner, max_size=4),
    max_leaves=30,
)


def names_and_values(value: Any) -> int:
    """An empty list or object counts as two."""
    if isinstance(value, dict):
        return 1 + (sum(1 + names_and_values(each) for each in value.values()) or 1)
    return 1 + (sum(map(names_and_values, value)) or 1) if isinstance(value, list) else 1


def depth_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


@given(ODD_JSON, st.booleans(), st.sampled_from([None, 2]))
def test_names_values_and_depth_are_counted_without_parsing(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert count_json_values(text) == names_and_values(value)
    assert count_json_values(text, enough=10**6) >= names_and_values(value)
    deep = "[" * MAX_DEPTH + text + "]" * MAX_DEPTH  # so deep that no short cut is taken
    assert json_depth(deep) == MAX_DEPTH + depth_of(value)
    assert MAX_DEPTH >= json_depth(text) >= depth_of(value) or json_depth(text) == depth_of(value)


@given(ODD_TEXT)
def test_texts_that_are_no_json_are_counted_too(text: str) -> None:
    assert count_json_values(text) <= 1 + len(text)
    assert json_depth("[" * 100 + text) <= 100 + len(text)


@given(depth=st.integers(1, 100), kind=st.sampled_from(["[{}]", '{{"a":{}}}']))
def test_json_is_taken_down_to_a_depth(depth: int, kind: str) -> None:
    text = "1"
    for _ in range(depth):
        text = kind.format(text)
    try:
        check_json(text, "x", most=10_000)
        taken = True
    except InvalidError:
        taken = False
    assert taken == (depth <= MAX_DEPTH)
