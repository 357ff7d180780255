"""What people type about runs: tasks, evaluators, gates, and which run is meant."""

from typing import Any

import pytest
from lodestream.reports import Threshold
from lodestream_proto.v1.experiments_pb2 import ExperimentRun

from services.edge.cli.errors import CliError
from services.edge.cli.experiment_compare import allowed_regression, gated_metric
from services.edge.cli.experiment_run import default_name, evaluator_spec, prompt_named, setting, spec_lists, task_of
from services.edge.cli.runs import choose_run


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("exact_match", {"kind": "exact_match"}),
        ("contains:value=14 days,ignore_case=true", {"kind": "contains", "value": "14 days", "ignore_case": True}),
        (
            "contains:value=yes, of course,name=agrees",
            {"kind": "contains", "value": "yes, of course", "name": "agrees"},
        ),
        ('contains:value="14"', {"kind": "contains", "value": "14"}),
        ("latency:max=1.5", {"kind": "latency", "max": 1.5}),
        (r"regex:pattern=^\d{1,3}=x", {"kind": "regex", "pattern": r"^\d{1,3}=x"}),
        ('json_schema:schema={"a": 1, "b": [1, 2]}', {"kind": "json_schema", "schema": {"a": 1, "b": [1, 2]}}),
        ("x:a=NaN,b=null", {"kind": "x", "a": "NaN", "b": None}),
    ],
)
def test_an_evaluator_is_a_kind_with_settings(text: str, expected: dict[str, Any]) -> None:
    assert evaluator_spec(text) == expected


@pytest.mark.parametrize("text", ["", "Contains:value=1", "contains:", "contains:value", "contains:a=1,a=2", "=x"])
def test_what_is_no_evaluator_is_said(text: str) -> None:
    with pytest.raises(ValueError, match=r"begin with a kind|no settings|NAME=VALUE|twice"):
        evaluator_spec(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("answer", {"name": "answer", "label": "production"}),
        ("answer:7", {"name": "answer", "version": 7}),
        ("answer:staging", {"name": "answer", "label": "staging"}),
        ("team:answer:7", {"name": "team:answer", "version": 7}),
    ],
)
def test_a_prompt_is_named_with_a_version_or_a_label(text: str, expected: dict[str, Any]) -> None:
    assert prompt_named(text) == expected


@pytest.mark.parametrize("text", ["", ":7", "answer:"])
def test_what_names_no_prompt_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="is not a prompt"):
        prompt_named(text)


def test_a_task_has_what_was_said_and_nothing_else() -> None:
    prompt = prompt_named("answer:7")
    assert task_of(prompt, "mock", "m", []) == {"kind": "prompt", "prompt": prompt, "provider": "mock", "model": "m"}
    assert task_of(prompt, "mock", "m", [setting("temperature=0"), setting("user=ada")])["settings"] == {
        "temperature": 0, "user": "ada",
    }  # fmt: skip
    assert default_name(prompt, 7, "20260301-121500") == "answer.7.20260301-121500"


def test_a_file_has_a_list_or_both_lists() -> None:
    one = {"kind": "exact_match"}
    assert spec_lists([one]) == ([one], [])
    assert spec_lists({"evaluators": [one], "run_evaluators": [one]}) == ([one], [one])
    wrongs: list[object] = [1, {"evaluator": []}, {"evaluators": {}}, [1]]
    for wrong in wrongs:
        with pytest.raises(ValueError, match=r"neither a list|not a list of objects"):
            spec_lists(wrong)


@pytest.mark.parametrize(
    ("text", "name", "threshold"),
    [
        ("accuracy", "accuracy", None),
        ("accuracy:min=0.8", "accuracy", Threshold(0.8)),
        ("accuracy:min=80%", "accuracy", Threshold(0.8)),
        ("latency:max=2", "latency", Threshold(None, 2.0)),
        ("tone:kind:min=0.2,max=0.4", "tone:kind", Threshold(0.2, 0.4)),
        ("a:b", "a:b", None),
    ],
)
def test_a_metric_may_have_bounds(text: str, name: str, threshold: Threshold | None) -> None:
    assert gated_metric(text) == (name, threshold)


@pytest.mark.parametrize("text", ["", ":min=1", "a:min=x", "a:min=nan", "a:min=1,min=2", "a:min=2,max=1"])
def test_bounds_that_make_no_sense_are_said(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a metric|not a number|twice|a min above its max"):
        gated_metric(text)


def test_an_allowance_is_a_loss() -> None:
    assert allowed_regression("accuracy=0.02") == ("accuracy", 0.02)
    assert allowed_regression("a=b=2%") == ("a=b", 0.02)
    for wrong in ("accuracy", "=1", "a=-1", "a=inf"):
        with pytest.raises(ValueError, match=r"NAME=VALUE|can't be negative|not a number"):
            allowed_regression(wrong)


def run(run_id: str, name: str, dataset: str = "") -> ExperimentRun:
    its = ExperimentRun(dataset_name=dataset)
    its.request.run_id, its.request.name = run_id, name
    return its


RUNS = [run("aa11" + "0" * 28, "answer.3"), run("aa22" + "0" * 28, "answer.4"), run("bb33" + "0" * 28, "aa22")]


@pytest.mark.parametrize(
    ("named", "expected"),
    [("answer.3", 0), ("aa11", 0), ("b", 2), ("answer.4", 1), ("aa22", 2), ("aa22" + "0" * 28, 1)],
    ids=["name", "id begins", "unique beginning", "another name", "a name goes first", "whole id"],
)
def test_a_run_is_meant_by_its_name_or_id_or_how_one_begins(named: str, expected: int) -> None:
    assert choose_run(named, RUNS) is RUNS[expected]


def test_two_that_may_be_meant_are_named_and_none_is_said() -> None:
    with pytest.raises(
        CliError,
        match=r"'answer' is ambiguous, it matches answer\.3 \(aa11.*\), answer\.4 \(aa22.*\): use DATASET/NAME",
    ):
        choose_run("answer", RUNS)
    same = [*RUNS, run("cc" * 16, "answer.3", "faq")]
    with pytest.raises(CliError, match=r"faq/answer\.3 \(cc.*\): use DATASET/NAME or the id"):
        choose_run("answer.3", same)
    assert choose_run("faq/answer.3", same) is same[-1]
    assert choose_run("faq/", same) is same[-1]
    for named in ("nothing", ""):
        with pytest.raises(CliError, match="there is no run"):
            choose_run(named, RUNS)
