"""Experiments in a program: every item judged and recorded, whatever the task does."""

import asyncio
import contextvars
import hashlib
import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from lodestream import (
    Evaluation,
    ExperimentRefusedError,
    ExperimentUnavailableError,
    Lodestream,
    RegressionError,
    get_client,
    observe,
)
from lodestream._experiments import progress, requests
from lodestream.evaluators import evaluator_of, run_evaluator_of
from lodestream.testing import captured
from lodestream_evals.strict_json import canonical_json
from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.score_event_pb2 import SCORE_SOURCE_EVALUATOR

from sdk.tests.experiment_server import ExperimentServer, scores_in
from sdk.tests.polling import until


@pytest.fixture
def server() -> Iterator[ExperimentServer]:
    with ExperimentServer() as running:
        running.add("sums", *({"input": n, "expected_output": 2 * n, "metadata": {"n": n}} for n in range(6)))
        yield running


@pytest.fixture
def client(server: ExperimentServer, tmp_path: Path) -> Iterator[Lodestream]:
    made = Lodestream(endpoint=server.address, secret_key="sk", spool_dir=tmp_path)
    yield made
    made.shutdown()


def double(*, item: Any, **_: Any) -> int:
    return int(item["input"]) * 2


def correct(*, output: int, expected_output: int, **_: Any) -> Evaluation:
    return Evaluation(name="correct", value=output == expected_output, comment=f"it is {output}")


LOCAL = [{"input": n, "expected_output": 2 * n} for n in range(4)]


# --- What is done, and what is told of it -----------------------------------------------------------------------------


def test_every_item_is_run_judged_and_recorded(server: ExperimentServer, client: Lodestream) -> None:
    dataset = client.get_dataset("sums")
    result = dataset.run_experiment(
        name="doubling", run_name="first", description="does it double?", task=double, evaluators=[correct],
        metadata={"commit": "abc"}, max_concurrency=3,
    )  # fmt: skip
    assert [(item.input, item.output, item.value("correct"), item.error) for item in result] == [
        (n, 2 * n, True, "") for n in range(6)
    ]
    assert (len(result), result.mean("correct"), result.recorded, result.receipt.complete) == (6, 1.0, True, True)
    run = server.run(result.run_id)
    assert (run.state, run.items_finished, run.items_failed) == (pb.EXPERIMENT_STATE_COMPLETED, 6, 0)
    request = run.request
    assert (request.name, request.dataset_id, request.dataset_version) == ("first", dataset.id, dataset.version)
    assert (request.description, request.metadata_json, request.repetitions) == (
        "does it double?", '{"commit":"abc"}', 1,
    )  # fmt: skip
    assert '"kind": "sdk"' in request.task_json
    (told,) = [item for item in server.finished(result.run_id) if item.item_id == result.items[2].item_id]
    assert (told.output_json, told.error, told.attempts, told.input_json) == ("4", "", 1, "")
    assert told.started_at.ToNanoseconds() <= told.ended_at.ToNanoseconds()
    (said,) = told.evaluations
    assert (said.name, said.boolean, said.comment, len(said.evaluator_version)) == ("correct", True, "it is 4", 12)


def test_an_item_is_a_trace_with_its_scores(server: ExperimentServer, client: Lodestream) -> None:
    @observe(as_type="tool")
    def inner(value: int) -> int:
        get_client().score_current_trace(name="by the task", value=1)
        return value

    @observe
    def around() -> Any:
        return client.run_experiment(
            name="e", data=[{"input": 7}], task=lambda item: inner(item["input"]), evaluators=[correct_if(7)]
        )

    result = around()
    client.flush()
    (item,) = result.items
    spans = {span.name: span for request in server.requests for span in spans_of(request)}
    root, task, its, judge = (spans[name] for name in ("experiment-item", "<lambda>", "inner", "is_7"))
    assert {span.trace_id.hex() for span in (root, task, its, judge)} == {item.trace_id}
    assert spans["around"].trace_id.hex() != item.trace_id
    assert not root.parent_span_id
    assert (task.parent_span_id, its.parent_span_id, judge.parent_span_id) == (root.span_id, task.span_id, root.span_id)
    told = {pair.key: pair.value.string_value for pair in root.attributes}
    assert told["lodestream.observation.metadata.run_id"] == f'"{result.run_id}"'
    assert (told["lodestream.observation.input"], told["lodestream.observation.output"]) == ("7", "7")
    scores = {score.name: score for score in scores_in(server)}
    assert {score.target.trace_id.hex() for score in scores.values()} == {item.trace_id}
    judged = scores["is_7"]
    assert (judged.value.boolean, judged.source, judged.score_id) == (
        True, SCORE_SOURCE_EVALUATOR, item.judgements[0].score_id,
    )  # fmt: skip
    assert judged.evaluator_version == item.judgements[0].revision
    assert set(scores) == {"is_7", "by the task"}


def correct_if(number: int) -> Any:
    def judge(output: int) -> bool:
        return output == number

    judge.__name__ = f"is_{number}"
    return judge


def spans_of(request: Any) -> Iterator[Any]:
    return (span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans)


def test_local_data_has_ids_by_content_and_travels_with_the_results(
    server: ExperimentServer, client: Lodestream
) -> None:
    data = [
        {"input": {"b": 1, "a": 2}, "expected_output": [1], "metadata": {"m": 1}, "more": "of mine"},
        {"input": {"a": 2, "b": 1}, "expected_output": [1]},
        {"input": "x", "id": "mine"},
    ]
    seen: list[Any] = []
    result = client.run_experiment(name="local", data=data, task=seen.append)
    assert len(result) == 3
    assert sorted(map(str, seen)) == sorted(map(str, data))
    assert [item.item for item in result] == data
    first, second, third = (item.item_id for item in result)
    assert first == hashlib.sha256(canonical_json([{"a": 2, "b": 1}, [1]], "x").encode()).hexdigest()[:32]
    assert third == "mine"
    assert len({first, second, third}) == 3
    told = {item.item_id: item for item in server.finished(result.run_id)}
    assert (told[first].input_json, told[first].expected_output_json, told[first].metadata_json) == (
        '{"b":1,"a":2}', "[1]", '{"m":1}',
    )  # fmt: skip
    assert server.run(result.run_id).request.dataset_id == ""
    again = client.run_experiment(name="local", data=data, task=lambda item: None)
    assert [item.item_id for item in again] == [first, second, third]
    assert again.run_id != result.run_id


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{"question": 1}], r"data\[0\].input: is missing"),
        ([{"input": 1, "id": "a"}, {"input": 2, "id": "a"}], r"data\[1\].id: 'a' is the id of another item"),
        ([{"input": float("nan")}], r"data\[0\].input: nan is no JSON"),
        ([{"input": 1, "metadata": {"x": object()}}], r"data\[0\].metadata.x: is of the type object"),
        ("sums", "a Dataset or a list"),
        (7, "a Dataset or a list"),
    ],
)
def test_data_that_make_no_sense(client: Lodestream, server: ExperimentServer, data: Any, message: str) -> None:
    with pytest.raises(ExperimentRefusedError, match=message):
        client.run_experiment(name="e", data=data, task=double)
    assert not server.runs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"evaluators": [lambda output, nonsense: 1]}, r"evaluators\[0\] asks for nonsense; it can be given input"),
        ({"evaluators": [lambda one, two: 1]}, "asks for one, two"),
        ({"evaluators": double}, "evaluators is a list"),
        ({"evaluators": [7]}, r"evaluators\[0\] is 7, which can't be called"),
        ({"evaluators": [{"kind": "contians"}]}, r"evaluators\[0\].kind"),
        ({"evaluators": [{"kind": "regex"}]}, r"evaluators\[0\].pattern"),
        ({"evaluators": [{"kind": "exact_match"}, {"kind": "exact_match"}]}, "name of another"),
        ({"run_evaluators": [{"kind": "no_such"}]}, r"run_evaluators\[0\].kind"),
        ({"run_evaluators": [evaluator_of({"kind": "exact_match"})]}, "judges no runs"),
        ({"repetitions": 0}, "repetitions: 0"),
        ({"max_concurrency": 1.5}, "max_concurrency: 1.5"),
        ({"item_timeout": 0}, "item_timeout"),
        ({"metadata": {"x": float("inf")}}, "metadata.x: inf"),
    ],
)
def test_options_that_make_no_sense(client: Lodestream, options: Any, message: str) -> None:
    with pytest.raises(ExperimentRefusedError, match=message):
        client.run_experiment(name="e", data=LOCAL, task=double, **options)


def test_options_that_there_are_not(client: Lodestream) -> None:
    with pytest.raises(TypeError, match="has no concurrency"):
        client.run_experiment(name="e", data=LOCAL, task=double, concurrency=5)  # type: ignore[call-arg]
    with pytest.raises(ExperimentRefusedError, match="task asks for a, b"):
        client.run_experiment(name="e", data=LOCAL, task=lambda a, b: 1)


def test_repetitions(server: ExperimentServer, client: Lodestream) -> None:
    result = client.get_dataset("sums").run_experiment(
        name="e", task=lambda input, repetition: (input, repetition), repetitions=3
    )
    assert [(item.input, item.repetition) for item in result] == [(n, r) for r in range(3) for n in range(6)]
    assert len({item.trace_id for item in result}) == 18
    assert len(server.finished(result.run_id)) == 18


# --- Tasks and evaluators ---------------------------------------------------------------------------------------------


def test_a_task_that_raises_makes_a_failed_item(server: ExperimentServer, client: Lodestream) -> None:
    judged: list[int] = []

    def task(input: int) -> int:
        if input == 2:
            raise ValueError("not two")
        if input == 3:
            sys.exit("away")
        if input == 4:
            raise asyncio.CancelledError
        return input

    result = client.get_dataset("sums").run_experiment(name="e", task=task, evaluators=[judged.append])
    assert sorted(judged) == [0, 1, 5]
    assert [item.error for item in result.failed] == [
        "ValueError: not two", "RuntimeError: SystemExit: away", "RuntimeError: it was cancelled",
    ]  # fmt: skip
    told = {item.item_id: item for item in server.finished(result.run_id)}
    failed = told[result.items[2].item_id]
    assert (failed.error, failed.output_json, list(failed.evaluations)) == ("ValueError: not two", "", [])
    assert server.run(result.run_id).items_failed == 3


async def test_tasks_run_in_threads_or_in_a_loop_beside_a_running_one(client: Lodestream) -> None:
    here = threading.get_ident()
    places = set()

    async def asynchronous(item: Any) -> str:
        await asyncio.sleep(0)
        places.add(threading.get_ident())
        return "async"

    def synchronous(item: Any) -> str:
        places.add(threading.get_ident())
        return "sync"

    result = client.run_experiment(name="a", data=LOCAL, task=asynchronous)
    assert {item.output for item in result} == {"async"}
    result = client.run_experiment(name="b", data=LOCAL, task=synchronous)
    assert {item.output for item in result} == {"sync"}
    assert here not in places
    places.clear()
    result = await client.run_experiment_async(name="c", data=LOCAL, task=asynchronous)
    assert ({item.output for item in result}, places) == ({"async"}, {here})
    result = client.run_experiment(name="d", data=LOCAL, task=lambda item: asynchronous(item=item))
    assert {item.output for item in result} == {"async"}


def test_the_callers_context_reaches_the_task(client: Lodestream) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("mine")
    result = client.run_experiment(name="e", data=LOCAL[:1], task=lambda item: variable.get())
    assert result.items[0].output == "mine"


def test_no_more_than_so_many_at_a_time(client: Lodestream) -> None:
    lock, running, most = threading.Lock(), 0, 0
    met = threading.Barrier(3)

    def task(item: Any) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        met.wait(10)
        with lock:
            running -= 1

    client.run_experiment(name="e", data=[{"input": n} for n in range(9)], task=task, max_concurrency=3)
    assert most == 3


def test_an_item_has_its_time(client: Lodestream) -> None:
    release = threading.Event()

    async def slow(input: int) -> int:
        if input == 1:
            await asyncio.sleep(60)
        return input

    def stuck(input: int) -> int:
        if input == 1:
            release.wait(60)
        return input

    def impatient(input: int) -> int:
        raise TimeoutError("the provider's")

    data = [{"input": 0}, {"input": 1}]
    for task in (slow, stuck):
        result = client.run_experiment(name="e", data=data, task=task, item_timeout=0.1)
        assert [item.error for item in result] == ["", "OvertimeError: not done within 0.1 s"]
    release.set()

    async def impatient_itself(input: int) -> None:
        async with asyncio.timeout(0):
            await asyncio.sleep(60)

    result = client.run_experiment(name="e", data=data, task=impatient_itself, item_timeout=10)
    assert result.items[0].error.startswith("TimeoutError")
    result = client.run_experiment(name="e", data=data, task=impatient, item_timeout=10)
    assert result.items[0].error == "TimeoutError: the provider's"


def test_what_functions_do_to_what_they_are_given_reaches_nobody_else(
    server: ExperimentServer, client: Lodestream
) -> None:
    def task(item: Any) -> Any:
        item["input"].append("by the task")
        item["expected_output"].clear()
        return item["input"]

    def judge(input: Any, expected: Any, metadata: Any) -> bool:
        metadata["by"] = "the evaluator"
        return (input, expected) == ([1], [2])

    data = [{"input": [1], "expected_output": [2], "metadata": {}}]
    result = client.run_experiment(name="e", data=data, task=task, evaluators=[judge], repetitions=2)
    assert [(item.output, item.value("judge"), item.input) for item in result] == [([1, "by the task"], True, [1])] * 2
    assert data == [{"input": [1], "expected_output": [2], "metadata": {}}]
    assert {item.input_json for item in server.finished(result.run_id)} == {"[1]"}
    of_dataset = client.get_dataset("sums").run_experiment(name="e", task=lambda item: item.metadata.clear())
    assert of_dataset.items[3].metadata == {"n": 3}


def test_evaluators_may_return_what_they_like(client: Lodestream) -> None:
    async def of_numbers(output: int, expected: int, reference: int) -> float:
        return abs(output - expected) / (reference or 1)

    class Labeller:
        def __call__(self, example: Any, latency: float) -> tuple[str, str]:
            return "fast" if latency < 60 else "slow", f"of {example['input']}"

    def several(output: int) -> list[Any]:
        return [Evaluation(name="a", value=1), {"name": "b", "score": 0.5, "explanation": "half"}]

    def nothing(output: int) -> None:
        return None

    def broken(output: int) -> Any:
        raise ZeroDivisionError("as they do")

    def senseless(output: int) -> Any:
        return float("nan")

    result = client.run_experiment(
        name="e", data=LOCAL[:1], task=double,
        evaluators=[of_numbers, Labeller(), several, nothing, broken, senseless, lambda output: True, lambda output: 3],
    )  # fmt: skip
    (item,) = result.items
    assert {each.name: (each.value, each.comment) for each in item.evaluations} == {
        "of_numbers": (0.0, None),
        "Labeller": ("fast", "of 0"),
        "a": (1, None),
        "b": (0.5, "half"),
        "<lambda>": (True, None),
        "<lambda>-2": (3, None),
    }
    assert item.evaluation_errors == {
        "broken": "ZeroDivisionError: as they do",
        "senseless": "InvalidEvaluationError: value: nan is not a finite number",
    }


def test_a_name_that_two_evaluators_say_does_not_count(client: Lodestream) -> None:
    one, other = (lambda output, n=n: Evaluation(name="same", value=n) for n in (1, 2))
    result = client.run_experiment(name="e", data=LOCAL[:1], task=double, evaluators=[one, other])
    (item,) = result.items
    assert (item.evaluations, list(item.evaluation_errors)) == ([], ["same"])


def test_built_in_evaluators_are_objects_or_specs(server: ExperimentServer, client: Lodestream) -> None:
    result = client.get_dataset("sums").run_experiment(
        name="e",
        task=lambda input: str(input) if input else 1 / 0,
        evaluators=[{"kind": "contains", "name": "has-2", "value": "2"}, evaluator_of({"kind": "exact_match"})],
        run_evaluators=[run_evaluator_of({"kind": "pass_rate", "of": "has-2"})],
    )
    assert [item.value("has-2") for item in result] == [None, False, True, False, False, False]
    assert [each.name for each in result.run_evaluations] == ["pass_rate"]
    request = server.run(result.run_id).request
    assert '"kind": "contains"' in request.evaluators_json
    assert '"value": "2"' in request.evaluators_json
    assert "pass_rate" in request.run_evaluators_json


def test_the_composite_evaluator_sees_what_the_others_said(client: Lodestream) -> None:
    def together(*, output: int, evaluations: list[Evaluation]) -> float:
        return sum(float(each.value) for each in evaluations) + output

    result = client.run_experiment(
        name="e", data=[{"input": 2, "expected_output": 4}], task=double,
        evaluators=[correct, lambda output: 0.25], composite_evaluator=together,
    )  # fmt: skip
    assert result.items[0].value("together") == 5.25


def test_run_evaluators_see_all_items(server: ExperimentServer, client: Lodestream) -> None:
    def accuracy(*, item_results: Any, **_: Any) -> Evaluation:
        return Evaluation(
            name="accuracy", value=sum(item.value("correct") for item in item_results) / len(item_results)
        )

    async def remark(results: Any, run_name: str) -> Any:
        return {"label": "fine", "reason": run_name}

    def broken(items: Any) -> Any:
        raise KeyError("gone")

    result = client.get_dataset("sums").run_experiment(
        name="e", run_name="r", task=double, evaluators=[correct], run_evaluators=[accuracy, remark, broken]
    )
    assert [(each.name, each.value) for each in result.run_evaluations] == [("accuracy", 1.0), ("remark", "fine")]
    told = {each.name: each for each in server.run(result.run_id).run_evaluations}
    assert (told["accuracy"].numeric, told["remark"].comment, told["broken"].error) == (1.0, "r", "KeyError: 'gone'")
    scores = [score for score in scores_in(server) if score.target.run_id == result.run_id]
    assert sorted(score.name for score in scores) == ["accuracy", "remark"]
    assert told["accuracy"].score_id in {score.score_id for score in scores}


def test_a_regression_is_raised_when_all_is_recorded(server: ExperimentServer, client: Lodestream) -> None:
    def gate(item_results: Any) -> None:
        raise RegressionError(metric="accuracy", value=0.5, threshold=0.9)

    with pytest.raises(RegressionError, match=r"accuracy is 0.5, 0.9 is asked for") as raised:
        client.get_dataset("sums").run_experiment(
            name="e", run_name="r", task=double, evaluators=[correct], run_evaluators=[gate, len]
        )
    error = raised.value
    assert isinstance(error, AssertionError)
    assert (error.metric, error.value, error.threshold, error.baseline) == ("accuracy", 0.5, 0.9, None)
    assert error.result is not None
    assert (len(error.result), error.result.run_evaluations[0].value) == (6, 6)
    assert server.run(error.result.run_id).state == pb.EXPERIMENT_STATE_COMPLETED


# --- Beside the task --------------------------------------------------------------------------------------------------


def test_what_the_task_used_is_summed_up(server: ExperimentServer, client: Lodestream) -> None:
    def generate(usage: dict[str, int], cost: dict[str, float] | None = None) -> None:
        client.start_observation(name="ask", as_type="generation", usage_details=usage, cost_details=cost).end()

    def task(input: int) -> None:
        generate({"input": 10, "output": 3}, {"input": 0.001, "output": 0.002})
        generate({"prompt_tokens": 5, "completion_tokens": 2}, {"total": 0.5})

    def judge(output: Any) -> bool:
        generate({"input": 1_000, "output": 1_000}, {"total": 100.0})
        return True

    result = client.run_experiment(name="e", data=LOCAL[:1], task=task, evaluators=[judge])
    (item,) = result.items
    assert (item.input_tokens, item.output_tokens) == (15, 5)
    assert item.cost_usd == pytest.approx(0.503)
    (told,) = server.finished(result.run_id)
    assert (told.usage.input_tokens, told.usage.output_tokens, told.usage.cost_picodollars) == (15, 5, 503_000_000_000)


def test_what_is_masked_is_masked_everywhere(server: ExperimentServer, tmp_path: Path) -> None:
    def mask(*, data: Any) -> Any:
        return "***" if "secret" in str(data) else data

    client = Lodestream(endpoint=server.address, secret_key="sk", spool_dir=tmp_path, mask=mask)
    result = client.run_experiment(
        name="e", data=[{"input": "secret in", "expected_output": "secret too", "metadata": {"a": "secret"}}],
        task=lambda item: "secret out",
        evaluators=[lambda output: Evaluation(name="n", value=output == "secret out", comment="secret words")],
    )  # fmt: skip
    client.shutdown()
    assert result.items[0].value("n") is True
    told = b"".join(each.SerializeToString() for each in (*server.events, *server.requests))
    assert b"secret" not in told
    (item,) = server.finished(result.run_id)
    assert (item.output_json, item.input_json, item.expected_output_json) == ('"***"', '"***"', '"***"')
    assert "secret" not in result.to_markdown()


@pytest.mark.parametrize(("rate", "traces"), [(0.01, 4), (0.0, 0)])
def test_items_are_kept_whatever_share_of_traces_is(
    server: ExperimentServer, tmp_path: Path, rate: float, traces: int
) -> None:
    client = Lodestream(endpoint=server.address, secret_key="sk", spool_dir=tmp_path, sample_rate=rate)
    result = client.run_experiment(name="e", data=LOCAL, task=double, evaluators=[correct])
    client.shutdown()
    assert len(server.finished(result.run_id)) == 4
    assert server.kept.get("experiment-item", 0) == traces
    assert sum(bool(item.trace_id) for item in result) == traces
    assert len(list(scores_in(server))) == traces


def test_output_that_is_too_large_for_the_log_is_left_out(server: ExperimentServer, client: Lodestream) -> None:
    data = [{"input": "\u4e2d" * 390_000, "expected_output": "\u4e2d" * 390_000}]
    result = client.run_experiment(name="e", data=data, task=lambda item: "\u4e2d" * 390_000)
    (told,) = server.finished(result.run_id)
    assert told.ByteSize() < 1_600_000
    assert "left out" in told.expected_output_json
    assert len(told.output_json) > 300_000
    assert len(result.items[0].output) == 390_000


def test_a_program_that_only_tests_needs_no_server() -> None:
    with captured() as told:
        result = get_client().run_experiment(name="e", data=LOCAL, task=double, evaluators=[correct])
    assert (len(result), result.mean("correct"), result.recorded) == (4, 1.0, False)
    assert [span.name for span in told.spans].count("experiment-item") == 4
    assert [score.name for score in told.scores] == ["correct"] * 4
    assert [event.WhichOneof("payload") for event in told.events] == [
        *["experiment_item_finished"] * 4, "experiment_finished",
    ]  # fmt: skip
    assert "in this process only" in result.format()
    with pytest.raises(ExperimentUnavailableError, match="this process only"):
        result.compare("baseline")


def test_with_tracing_off_the_experiment_runs(tmp_path: Path) -> None:
    client = Lodestream(endpoint="127.0.0.1:1", tracing_enabled=False)
    result = client.run_experiment(name="e", data=LOCAL, task=double, evaluators=[correct])
    assert (len(result), result.mean("correct"), result.recorded) == (4, 1.0, False)
    assert {item.trace_id for item in result} == {""}


def test_a_server_that_is_away_at_the_start_is_told_before_anything_is_run(
    server: ExperimentServer, client: Lodestream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "_RETRIES", 0)
    server.failing = grpc.StatusCode.UNAVAILABLE
    ran: list[Any] = []
    with pytest.raises(ExperimentUnavailableError):
        client.run_experiment(name="e", data=LOCAL, task=ran.append)
    assert not ran


# --- Reports and comparisons ------------------------------------------------------------------------------------------


def test_reports_are_made_of_the_result(client: Lodestream, tmp_path: Path) -> None:
    result = client.get_dataset("sums").run_experiment(
        name="e",
        run_name="r",
        task=lambda input: 2 * input if input < 5 else 1 / 0,
        evaluators=[correct, lambda output: "x"],
    )
    report = result.report()
    assert (report.run.items_finished, report.run.items_failed, report.run.dataset_name) == (6, 1, "sums")
    summary = {each.name: each for each in report.run.evaluations}
    assert (summary["correct"].count, summary["correct"].mean, summary["correct"].counts["true"]) == (5, 1.0, 5)
    assert dict(summary["<lambda>"].counts) == {"x": 5}
    assert report.run.latency_p50_us <= report.run.latency_p95_us
    text = result.format(include_item_results=True)
    assert "ZeroDivisionError" in text
    assert "output: 4" in text
    for suffix, marker in ((".md", "|"), (".txt", "correct")):
        saved = result.save(tmp_path / "deep" / f"report{suffix}")
        assert marker in saved.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="ends with"):
        result.save(tmp_path / "report.docx")


def test_comparisons_are_the_servers(server: ExperimentServer, client: Lodestream) -> None:
    dataset = client.get_dataset("sums")
    one, two = (dataset.run_experiment(name="e", run_name=name, task=double) for name in ("one", "two"))
    compared = two.compare(one, metrics=["correct"], confidence=0.9)
    assert (compared.baseline.request.name, compared.runs[0].request.name) == ("one", "two")
    request = server.sent[-1]
    assert (list(request.metrics), request.confidence, request.wait_for.position) == (
        ["correct"], 0.9, "lodestream.scores:0:7",
    )  # fmt: skip
    assert two.compare("one").baseline.request.name == "one"
    assert two.compare(one.run_id).baseline.request.name == "one"
    with pytest.raises(ExperimentRefusedError):
        two.compare(one.run_id, nonsense=1)


# --- Progress ---------------------------------------------------------------------------------------------------------


def test_progress_is_lines_on_standard_error_when_asked_for(
    client: Lodestream, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client.run_experiment(name="quiet", data=LOCAL, task=double)
    monkeypatch.setattr(progress, "_EVERY_SECONDS", 0.0)
    client.run_experiment(name="n", run_name="loud", data=LOCAL, task=lambda input: 1 / input, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "loud: 4 of 4 items, 1 failed"
    assert "quiet" not in err


def test_progress_is_a_bar_on_a_terminal(client: Lodestream, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    written: list[str] = []

    class Terminal:
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

        def flush(self) -> None:
            pass

    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    client.run_experiment(name="n", run_name="r [x]", data=LOCAL, task=double, progress=True)
    told = "".join(written)
    assert "r [x]" in told
    assert "4/4" in told


def test_nothing_is_told_where_nothing_went_wrong(client: Lodestream, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lodestream"):
        began = time.monotonic()
        client.run_experiment(name="e", data=LOCAL, task=double)
        assert time.monotonic() - began < 10
    assert not caplog.records
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "lodestream-experiment"])
