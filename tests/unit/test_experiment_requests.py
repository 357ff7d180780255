"""A run is asked for in full: tasks, evaluators and what is left out; the same request is the same run."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from lodestream_proto.v1.experiment_event_pb2 import ExperimentBudget, ExperimentRequested
from lodestream_proto.v1.prompts_pb2 import PromptSelector

from services.write.gateway.experiment_specs import Specs, check_evaluators, read_task
from services.write.gateway.experiments import differences, refuse_different, with_defaults
from services.write.gateway.schema_sandbox import SchemaSandbox, SpecError
from services.write.gateway.schema_sandbox_child import name_evaluators
from shared.runtime.refusal import InvalidError, RefusedError
from tests.support.experiments import run


def task(prompt: Any, **fields: Any) -> str:
    its = {"kind": "prompt", "prompt": prompt, "provider": "mock", "model": "mock-large", **fields}
    return json.dumps({name: value for name, value in its.items() if value is not ...})


class Inline(SchemaSandbox):
    """Reads specs in this process, by the same code."""

    async def evaluator_names(
        self, project_id: str, evaluators: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> dict[str, list[str]]:
        answer = name_evaluators(evaluators)
        if fault := answer.get("fault"):
            raise SpecError(*fault)
        names: dict[str, list[str]] = answer["names"]
        return names


async def checked(requested: ExperimentRequested, *, of_a_program: bool = False) -> Specs:
    return await check_evaluators("acme", requested, "experiment", Inline(), of_a_program=of_a_program)


@pytest.mark.parametrize(
    ("field", "reason", "task_json"),
    [
        ("", "is missing", ""),
        (".kind", "is missing", "{}"),
        (".prompt", "is missing", task(...)),
        (".prompt", "is no JSON object", task("answer")),
        (".prompt.name", "is missing", task({})),
        (".prompt.name", "is no text", task({"name": 3})),
        (".prompt.name", 'has a "|"', task({"name": "a|b"})),
        (".prompt.nam", "is none of name, version, label", task({"nam": "x"})),
        (".prompt.version", "is no number", task({"name": "x", "version": "1"})),
        (".prompt.version", "is no number", task({"name": "x", "version": True})),
        (".prompt.version", "is no number", task({"name": "x", "version": 0})),
        (".prompt.version", "is no number", task({"name": "x", "version": 2**31})),
        (".prompt.label", "is not one to 36", task({"name": "x", "label": "A b"})),
        (".prompt.label", "is no text", task({"name": "x", "label": 1})),
        (".provider", "is missing", task({"name": "x"}, provider=...)),
        (".provider", "is missing", task({"name": "x"}, provider="")),
        (".model", "is no text", task({"name": "x"}, model=["m"])),
        (".model", "at most 255", task({"name": "x"}, model="m" * 256)),
        (".settings", "is no JSON object", task({"name": "x"}, settings=[])),
        (".settings.stream", "is not for settings", task({"name": "x"}, settings={"stream": True})),
        (".temperature", "is none of kind, prompt", task({"name": "x"}, temperature=0)),
    ],
)
def test_a_task_is_refused_by_the_name_of_the_field(field: str, reason: str, task_json: str) -> None:
    with pytest.raises(InvalidError) as refused:
        read_task(task_json, "task")
    assert (refused.value.field, reason in refused.value.why) == (f"task{field}", True), refused.value


@pytest.mark.parametrize(
    ("prompt", "selector", "kept"),
    [
        ({"name": "x", "version": 3}, PromptSelector(name="x", version=3), {"name": "x", "version": 7}),
        (
            {"name": "x", "label": "beta"},
            PromptSelector(name="x", label="beta"),
            {"name": "x", "version": 7, "label": "beta"},
        ),
        (
            {"name": "x"},
            PromptSelector(name="x", label="production"),
            {"name": "x", "version": 7, "label": "production"},
        ),
    ],
)
def test_a_prompt_by_version_or_label_becomes_one_version(
    prompt: dict[str, Any], selector: PromptSelector, kept: dict[str, Any]
) -> None:
    read = read_task(task(prompt, settings={"temperature": 0}), "task")
    assert read is not None
    assert read.prompt == selector
    said = read.with_version(7)
    assert said["prompt"] == kept
    assert (said["settings"], said["model"]) == ({"temperature": 0}, "mock-large")
    by_label = 7 if "label" in kept else None
    assert read.version_in(json.dumps(said)) == by_label, "a label says the same run, wherever it points by now"
    assert read.version_in(task({"name": "y", "version": 7, "label": kept.get("label")})) is None
    assert read.version_in('{"kind": "sdk"}') is None


def test_a_programs_task_says_what_it_likes() -> None:
    assert read_task('{"kind": "sdk", "function": "answer", "git": {"commit": "abc"}}', "task") is None


@pytest.mark.parametrize(
    ("field", "reason", "specs"),
    [
        ("evaluators_json[0].kind", "", [{"kind": "contain", "value": "x"}]),
        ("evaluators_json[0].kind", "is missing", [{}]),
        ("evaluators_json[1].pattern", "is missing", [{"kind": "exact_match"}, {"kind": "regex"}]),
        (
            "evaluators_json[2].pattern",
            "",
            [{"kind": "exact_match"}, {"kind": "latency"}, {"kind": "regex", "pattern": "("}],
        ),
        ("evaluators_json[0].ignore_cas", "", [{"kind": "contains", "value": "x", "ignore_cas": True}]),
        (
            "evaluators_json[1].name",
            "'exact_match' is the name of another one",
            [{"kind": "exact_match"}, {"kind": "contains", "value": "x", "name": "exact_match"}],
        ),
        ("evaluators_json[0]", "is no JSON object", [3]),
    ],
)
async def test_an_evaluator_is_refused_by_the_name_of_its_setting(field: str, reason: str, specs: list[Any]) -> None:
    with pytest.raises(InvalidError) as refused:
        await checked(run(evaluators_json=json.dumps(specs)))
    assert (refused.value.field, reason in refused.value.why) == (f"experiment.{field}", True), refused.value


async def test_evaluators_that_the_server_knows_are_taken_and_those_of_runs_apart() -> None:
    of_items = json.dumps([{"kind": "contains", "value": "x"}, {"kind": "contains", "value": "y", "name": "has-y"}])
    of_runs = json.dumps([{"kind": "pass_rate", "of": "has-y"}])
    await checked(run(evaluators_json=of_items, run_evaluators_json=of_runs))
    with pytest.raises(InvalidError, match=r"experiment\.run_evaluators_json\[0\]\.kind"):
        await checked(run(run_evaluators_json=of_items))
    await checked(run())


async def test_a_programs_own_functions_judge_only_its_own_runs() -> None:
    own = run(evaluators_json='[{"kind": "function", "name": "mine"}]')
    await checked(own, of_a_program=True)
    with pytest.raises(InvalidError, match=r"experiment\.evaluators_json\[0\]\.kind"):
        await checked(own)
    both = json.dumps([{"kind": "function", "name": "mine"}, {"kind": "regex"}])
    with pytest.raises(InvalidError, match=r"experiment\.evaluators_json\[1\]\.pattern: is missing"):
        await checked(run(evaluators_json=both), of_a_program=True)
    for told in ({"kind": "function"}, {"kind": "function", "name": 3}, {"kind": "function", "name": "a\n"}):
        with pytest.raises(InvalidError, match=r"experiment\.evaluators_json\[0\]\.name"):
            await checked(run(evaluators_json=json.dumps([told])), of_a_program=True)


def test_what_is_left_out_is_filled_in() -> None:
    requested = with_defaults(ExperimentRequested(name="x", splits=["b", "a", "b"]))
    assert (requested.repetitions, requested.max_concurrency, list(requested.splits)) == (1, 8, ["a", "b"])
    said = with_defaults(run(repetitions=3, max_concurrency=2))
    assert said == run(repetitions=3, max_concurrency=2)


@pytest.mark.parametrize(
    ("other", "different"),
    [
        (run(), []),
        (run(author="somebody else"), []),
        (run(task_json=' {"kind" : "sdk"}'), []),
        (run(splits=["b", "a"]), ["splits"]),
        (run(name="second", repetitions=3), ["name", "repetitions"]),
        (run(dataset_version=2), ["dataset_version"]),
        (run(evaluators_json='[{"kind": "exact_match"}]'), ["evaluators_json"]),
        (run(metadata_json="{}"), ["metadata_json"]),
        (run(budget=ExperimentBudget(max_cost_usd=1)), ["budget"]),
        (run(description="x", max_concurrency=9), ["max_concurrency", "description"]),
    ],
)
def test_a_run_is_another_one_where_it_was_asked_for_differently(
    other: ExperimentRequested, different: list[str]
) -> None:
    assert differences(run(), other) == different
    if different:
        with pytest.raises(RefusedError, match=f"'r' is another one: it differs in {', '.join(different)}"):
            refuse_different(run(), other)


def test_every_field_of_a_request_is_compared_but_its_id_and_who_asked() -> None:
    fields = {field.name for field in ExperimentRequested.DESCRIPTOR.fields} - {"run_id", "author"}
    other = run(
        name="n", dataset_id="", dataset_version=9, task_json="{}", evaluators_json="[]", run_evaluators_json="[]",
        metadata_json="{}", repetitions=9, max_concurrency=9, splits=["s"], description="d",
        budget=ExperimentBudget(max_seconds=1),
    )  # fmt: skip
    assert set(differences(run(), other)) == fields
