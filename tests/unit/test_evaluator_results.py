"""What is told of an item: the same bytes for the same values, ids that follow from the item, and always tellable."""

import json
from dataclasses import replace
from typing import Any

import pytest
from lodestream import Evaluation, TextPrompt
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import (
    EXPERIMENT_OUTCOME_BUDGET_SPENT,
    EXPERIMENT_OUTCOME_COMPLETED,
    ExperimentItemFinished,
    ExperimentRequested,
)

from services.write.evaluator.finisher import run_outcome
from services.write.evaluator.items import EvaluatorOutcome, ItemOutcome, RunItem, event_id, trace_id
from services.write.evaluator.providers.provider import ModelReply
from services.write.evaluator.result_events import item_events, log_record
from services.write.evaluator.run_context import RunContext
from services.write.evaluator.tasks import Task, TaskError, is_run_by_client, parse_specs, parse_task
from shared.event_log.append import MAX_VALUE_BYTES
from shared.event_log.topics import EXPERIMENTS, SCORES, TRACES
from shared.rules.experiments import check_item_result

RUN = ("p", "run")
CONTEXT = RunContext(
    RUN, ExperimentRequested(run_id="run", name="spring", dataset_version=4), "questions",
    Task("answer", 2, "mock", "mock-large", {"temperature": 0}), TextPrompt(name="answer", version=2, prompt="?"), (),
)  # fmt: skip
ITEM = RunItem("i", 1, '{"question": "why?"}', '"because"', "")
PASSED = EvaluatorOutcome("good", "abc", Evaluation(name="good", value=True, comment="yes"), "", 3, 4)
FAILED = EvaluatorOutcome("bad", "def", None, "it broke", 3, 4)
OUTCOME = ItemOutcome(
    messages=[{"role": "user", "content": "?"}],
    reply=ModelReply(text="because", model="mock-large", usage={"input": 10, "output": 5}),
    error="",
    attempts=2,
    started_ns=1_000_000_000,
    ended_ns=2_000_000_000,
    evaluators=(PASSED, FAILED),
)


def finished(events: list[bytes]) -> ExperimentItemFinished:
    return Event.FromString(events[-1]).experiment_item_finished


def test_the_same_is_told_in_the_same_bytes() -> None:
    assert item_events(CONTEXT, ITEM, OUTCOME) == item_events(CONTEXT, ITEM, replace(OUTCOME))


def test_ids_follow_from_run_item_and_repetition_whatever_came_of_it() -> None:
    one, other = (
        item_events(CONTEXT, ITEM, OUTCOME),
        item_events(CONTEXT, ITEM, replace(OUTCOME, ended_ns=3_000_000_000)),
    )
    assert one != other
    assert [Event.FromString(each).event_id for each in one] == [Event.FromString(each).event_id for each in other]
    assert finished(one).trace_id == finished(other).trace_id == trace_id(*RUN, "i", 1)
    assert trace_id(*RUN, "i", 1) != trace_id(*RUN, "i", 2) != trace_id("p", "run2", "i", 1)
    assert event_id("a", "b/c") != event_id("a/b", "c")


def test_the_result_is_last_and_everything_is_where_it_belongs() -> None:
    records = [log_record(event) for event in item_events(CONTEXT, ITEM, OUTCOME)]
    assert [record.topic for record in records] == [TRACES, SCORES, EXPERIMENTS]
    trace = b"p/" + trace_id(*RUN, "i", 1)
    assert [record.key for record in records] == [trace, trace, b"p/run"]


def test_a_failed_evaluator_is_told_and_is_no_score() -> None:
    events = item_events(CONTEXT, ITEM, OUTCOME)
    good, bad = finished(events).evaluations
    assert (good.boolean, good.evaluator_version, bad.error, bad.score_id) == (True, "abc", "it broke", "")
    assert Event.FromString(events[1]).score_recorded.score_id == good.score_id


def test_what_has_no_room_is_cut_rather_than_lost() -> None:
    long = replace(OUTCOME, reply=ModelReply(text="ä" * 500_000, model="m"), evaluators=(PASSED,) * 1)
    events = item_events(CONTEXT, replace(ITEM, input=json.dumps("\x7f" * 900_000)), long)
    assert all(len(event) <= MAX_VALUE_BYTES for event in events)
    check_item_result(finished(events), "x")
    assert json.loads(finished(events).output_json) == "ä" * 500_000


def test_what_the_read_model_would_not_take_is_told_as_an_error() -> None:
    twice = replace(OUTCOME, evaluators=(PASSED, PASSED), error="a\0b")
    result = finished(item_events(CONTEXT, ITEM, twice))
    check_item_result(result, "x")
    assert "is there twice" in result.error
    assert not result.evaluations


@pytest.mark.parametrize(
    ("state", "left", "outcome"),
    [
        ((True, False, False), (False, False), EXPERIMENT_OUTCOME_COMPLETED),
        ((True, True, True), (False, False), EXPERIMENT_OUTCOME_COMPLETED),
        ((True, False, False), (True, False), 0),
        ((True, False, False), (False, True), 0),
        ((False, False, False), (False, False), 0),
        ((True, True, False), (True, False), EXPERIMENT_OUTCOME_BUDGET_SPENT),
        ((True, True, False), (True, True), 0),
        ((False, False, True), (False, False), EXPERIMENT_OUTCOME_BUDGET_SPENT),
    ],
)
def test_a_run_ends_when_nothing_is_left_or_may_begin(
    state: tuple[bool, bool, bool], left: tuple[bool, bool], outcome: int
) -> None:
    row = dict(zip(("planned", "out_of_money", "out_of_time"), state, strict=True))
    assert run_outcome(row, queued=left[0], in_progress=left[1])[0] == outcome


GOOD = {"kind": "prompt", "prompt": {"name": "p", "version": 1}, "provider": "mock", "model": "m"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"kind": "sing"}, "task_json.kind"), ({"prompt": None}, "task_json.prompt"),
        ({"prompt": {"name": "p"}}, "task_json.prompt.version"), ({"prompt": {"version": 1}}, "task_json.prompt.name"),
        ({"provider": ""}, "task_json.provider"), ({"model": 3}, "task_json.model"),
        ({"settings": []}, "task_json.settings"), ({"settings": {"stream": True}}, "task_json.settings.stream"),
    ],
)  # fmt: skip
def test_a_task_that_can_not_be_run_names_the_field(change: dict[str, Any], named: str) -> None:
    request = ExperimentRequested(dataset_id="d", task_json=json.dumps({**GOOD, **change}))
    with pytest.raises(TaskError, match=named):
        parse_task(request)


def test_tasks_and_specs_are_read() -> None:
    assert parse_task(ExperimentRequested(dataset_id="d", task_json=json.dumps(GOOD))) == Task("p", 1, "mock", "m", {})
    with pytest.raises(TaskError, match="dataset_id"):
        parse_task(ExperimentRequested(task_json=json.dumps(GOOD)))
    assert is_run_by_client(ExperimentRequested(task_json='{"kind": "sdk"}'))
    assert not is_run_by_client(ExperimentRequested(task_json="nonsense"))
    assert parse_specs("", "x") == []
    with pytest.raises(TaskError, match=r"x\[1\]"):
        parse_specs('[{"kind": "a"}, 3]', "x")
