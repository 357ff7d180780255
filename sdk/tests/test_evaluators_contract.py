"""What holds for every kind of evaluator: specs round trip, settings are checked, and no data break them."""

from pathlib import Path
from typing import Any

import lodestream_evals.evaluators
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lodestream.evaluators import (
    KINDS,
    RUN_KINDS,
    Case,
    EvaluatorError,
    EvaluatorSpecError,
    evaluator_of,
    evaluators_of,
    run_evaluator_of,
    run_evaluators_of,
)

from sdk.tests.evaluator_specs import EVERY_KIND, EVERY_RUN_KIND, RUN, RUN_SPECS, SPECS, TOOLS

EVERY = [pytest.param(evaluator_of, spec, id=str(spec)[:60]) for spec in SPECS] + [
    pytest.param(run_evaluator_of, spec, id=str(spec)[:60]) for spec in RUN_SPECS
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["answer", "days", "list"]) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=10,
)
OUTPUTS = JSON | st.sampled_from(['{"answer": {"days": 3}}', '{"days":', "It takes 30 days.", "1e400", "[" * 5_000])


def test_every_file_is_a_kind_and_every_kind_is_tested():
    files = {file.stem for file in Path(lodestream_evals.evaluators.__path__[0]).glob("[!_]*.py")}
    assert files == KINDS.keys() | RUN_KINDS.keys()
    assert EVERY_KIND.keys() == KINDS.keys()
    assert EVERY_RUN_KIND.keys() == RUN_KINDS.keys()


@pytest.mark.parametrize(("make", "spec"), EVERY)
def test_specs_round_trip(make, spec):
    evaluator = make(spec)
    assert {**spec, **evaluator.spec} == {"name": spec["kind"], **spec}
    assert make(evaluator.spec) == evaluator
    named = make({**spec, "name": "another"})
    assert (named.name, named.revision) == ("another", evaluator.revision)


def test_an_evaluator_stays_what_it_is_whatever_becomes_of_its_spec():
    given: dict[str, Any] = {"kind": "json_schema", "schema": {"properties": {"days": {"type": "integer"}}}}
    evaluator, same = evaluator_of(given), evaluator_of(given)
    given["schema"]["properties"].clear()
    evaluator.spec["schema"]["properties"].clear()
    assert evaluator.spec == same.spec != {"name": "json_schema", **given}


@pytest.mark.parametrize(("make", "spec"), EVERY)
def test_unknown_settings_are_refused_by_name(make, spec):
    with pytest.raises(EvaluatorSpecError, match="no setting of this kind") as refused:
        make({**spec, "no_such_setting": 1})
    assert refused.value.field == "no_such_setting"


@pytest.mark.parametrize(("make", "spec"), EVERY)
@settings(max_examples=12)
@given(data=st.data())
def test_settings_of_any_shape_are_taken_or_refused_by_name(make, spec, data):
    key = data.draw(st.sampled_from([*spec, "name", "field", "min", "value"]))
    try:
        evaluator = make({**spec, key: data.draw(JSON)})
    except EvaluatorSpecError as refused:
        assert refused.field and refused.message  # noqa: PT017, PT018
    else:
        assert make(evaluator.spec).revision == evaluator.revision


@pytest.mark.parametrize(
    ("wrong", "field", "told"),
    [
        ({}, "kind", "is missing"),
        ({"kind": "contans"}, "kind", "one of exact_match, contains"),
        ({"kind": "contains", "vale": "x"}, "vale", "do you mean value?"),
        ({"kind": "contains", "name": "two\nlines"}, "name", "control character"),
        ({"kind": "contains", "name": "x" * 201}, "name", "201 characters"),
        ({"kind": "contains", "ignore_case": "yes"}, "ignore_case", "true or false, not a text"),
        ({"kind": "contains", "field": "outputs.days"}, "field", "path like output.answer.days"),
        ({"kind": "contains", "field": "output..days"}, "field", "no path from character 7"),
        ({"kind": "regex"}, "pattern", "is missing"),
        ({"kind": "regex", "pattern": "("}, "pattern", r"missing \)"),
        ({"kind": "regex", "pattern": r"(a)\1"}, "pattern", "invalid escape sequence"),
        ({"kind": "json_schema", "schema": "x"}, "schema", "not a text"),
        ({"kind": "json_schema", "schema": {"type": "objekt"}}, "schema", "no JSON Schema, at type"),
        ({"kind": "json_schema", "schema": {"pattern": "(?=a)"}}, "schema", "at pattern"),
        ({"kind": "json_schema", "schema": {"const": "x" * 200_001}}, "schema", "at most 200,000"),
        ({"kind": "numeric_tolerance", "value": "14"}, "value", "a number, not a text"),
        ({"kind": "numeric_tolerance", "absolute": -1}, "absolute", "at least 0, not -1"),
        ({"kind": "string_similarity", "min": 2}, "min", "at most 1, not 2"),
        ({"kind": "length", "min": 3, "max": 2}, "min", "3 is above max, 2"),
        ({"kind": "length", "min": float("nan")}, "min", "no JSON value"),
        ({"kind": "length", "unit": "tokens", "field": "output.days"}, "field", "no tokens of its own"),
        ([], "", "is an object, not a list"),
    ],
)
def test_what_is_wrong_with_settings_is_said(wrong, field, told):
    with pytest.raises(EvaluatorSpecError, match=told) as refused:
        evaluator_of(wrong)
    assert refused.value.field == field


def test_lists_of_specs_have_different_names_and_say_where_they_are_wrong():
    first, second = evaluators_of([{"kind": "contains"}, {"kind": "contains", "name": "mentions-days"}])
    assert (first.name, second.name) == ("contains", "mentions-days")
    wrongs: list[tuple[Any, str]] = [
        ([{"kind": "cost"}, {"kind": "cost"}], "1.name"),
        ([{"kind": "cost", "max": "x"}], "0.max"),
        ([{"kind": "cost"}, 3], "1"),
        ({"kind": "cost"}, ""),
    ]
    for wrong, field in wrongs:
        with pytest.raises(EvaluatorSpecError) as refused:
            evaluators_of(wrong)
        assert refused.value.field == field
    with pytest.raises(EvaluatorSpecError, match=r"1\.name"):
        run_evaluators_of([{"kind": "pass_rate"}, {"kind": "pass_rate"}])


@pytest.mark.parametrize("spec", SPECS, ids=str)
@settings(max_examples=15)
@given(output=OUTPUTS, expected=OUTPUTS, metadata=st.dictionaries(st.text(max_size=5), JSON, max_size=2))
async def test_outputs_of_any_shape_are_judged(spec, output, expected, metadata):
    evaluator = evaluator_of(spec)
    case = Case(input=expected, output=output, expected_output=expected, metadata=metadata, output_tokens=3)
    try:
        evaluation = await evaluator.evaluate(case, TOOLS)
    except EvaluatorError as error:
        assert str(error) and error.__cause__ is None  # noqa: PT017, PT018
        return
    assert (evaluation.name, evaluation.data_type) == (evaluator.name, evaluator.value_type)
    assert evaluation.comment
    assert await evaluator.evaluate(case, TOOLS) == evaluation


@pytest.mark.parametrize("spec", SPECS, ids=str)
async def test_a_task_that_failed_has_no_output_to_judge(spec):
    evaluator = evaluator_of(spec)
    failed = Case(error="TimeoutError: 30 s", latency_seconds=30, cost_usd=0.1)
    if evaluator.judges_failures:
        assert (await evaluator.evaluate(failed)).comment
    else:
        with pytest.raises(EvaluatorError, match="the task failed with TimeoutError: 30 s"):
            await evaluator.evaluate(failed)


async def test_a_missing_expected_output_is_the_evaluators_failure_not_a_false():
    for kind in ("exact_match", "contains", "numeric_tolerance", "string_similarity", "token_f1"):
        with pytest.raises(EvaluatorError, match="there is no expected_output"):
            await evaluator_of({"kind": kind}).evaluate(Case(output="14 days"))


async def test_objects_of_the_programs_are_judged_by_their_fields():
    shared = ["x"]
    endless: list[object] = []
    endless.append(endless)
    valid = evaluator_of({"kind": "json_valid"})
    assert (await valid.evaluate(Case(output=(shared, shared, {1: Path("a")})))).value is True
    with pytest.raises(EvaluatorError, match="the output is nested deeper than 200 levels"):
        await valid.evaluate(Case(output=endless))


@pytest.mark.parametrize("spec", RUN_SPECS, ids=str)
async def test_runs_are_judged_alike_in_any_order(spec):
    evaluator = run_evaluator_of(spec)
    evaluation = await evaluator.evaluate(RUN)
    assert (evaluation.name, evaluation.data_type) == (evaluator.name, evaluator.value_type)
    assert evaluation.comment
    assert await evaluator.evaluate(RUN[::-1]) == evaluation
    with pytest.raises(EvaluatorError):
        await evaluator.evaluate([])
