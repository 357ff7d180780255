"""Datasets and experiments of a program on the real stack: what it says is what the server has, whoever dies."""

import asyncio
import datetime as dt
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from lodestream import (
    DatasetItemsRefusedError,
    DatasetNotFoundError,
    DatasetRefusedError,
    Evaluation,
    ExperimentRefusedError,
    ExperimentStoppedError,
    Lodestream,
    RegressionError,
    observe,
)
from lodestream._experiments import runner
from lodestream._experiments import runs as sdk_runs
from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.query_pb2 import GetTraceRequest
from lodestream_proto.v1.scores_pb2 import ListScoresRequest

from tests.support.polling import until
from tests.support.stack import Stack, waiting

SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


@pytest.fixture
async def client(shared_stack: Stack, tmp_path: Path) -> AsyncIterator[Lodestream]:
    made = client_of(shared_stack, tmp_path)
    yield made
    await asyncio.to_thread(made.shutdown)


def client_of(stack: Stack, spool: Path) -> Lodestream:
    return Lodestream(endpoint=stack.address, secret_key=stack.keys["acme"].secret_key, spool_dir=spool)


def sums(client: Lodestream, name: str, count: int) -> Any:
    """A dataset of sums."""
    client.create_dataset(name, input_schema=SCHEMA)
    client.create_dataset_items(
        name,
        [
            {"input": {"n": n}, "expected_output": 2 * n, "splits": ["even" if n % 2 == 0 else "odd"]}
            for n in range(count)
        ],
    )
    return client.get_dataset(name)


async def run_of(stack: Stack, client: Lodestream, run_id: str) -> pb.ExperimentRun:
    request = pb.GetExperimentRequest(run_id=run_id, wait_for=waiting(client.position))
    answer: pb.GetExperimentResponse = await stack.ask(stack.experiments.GetExperiment, request)
    return answer.run


# --- Datasets ---------------------------------------------------------------------------------------------------------


def kept_and_refused(client: Lodestream) -> None:
    client.create_dataset("rows", description="rows", metadata={"a": 1}, input_schema=SCHEMA)
    rows: list[dict[str, Any]] = [{"input": {"n": n}} for n in (1, "one", float("nan"), 2)]
    with pytest.raises(DatasetItemsRefusedError) as raised:
        client.create_dataset_items("rows", rows)
    assert [(each.row, each.field) for each in raised.value.refused] == [(1, "input.n"), (2, "input.n")]
    assert [item.input for item in client.get_dataset("rows")] == [{"n": 1}, {"n": 2}]
    with pytest.raises(DatasetItemsRefusedError):
        client.create_dataset_item(dataset_name="rows", input={})
    with pytest.raises(DatasetNotFoundError, match="nowhere"):
        client.get_dataset("nowhere")
    with pytest.raises(DatasetRefusedError) as wrong:
        client.create_dataset("rows", input_schema={"type": 3})
    assert wrong.value.field == "input_schema"


async def test_rows_are_kept_or_refused_one_by_one(client: Lodestream) -> None:
    await asyncio.to_thread(kept_and_refused, client)


def exact_versions(client: Lodestream) -> None:
    dataset = sums(client, "versions", 1_203)
    assert (dataset.version, len(dataset), dataset.all_splits) == (1_204, 1_203, ("even", "odd"))
    assert [item.expected_output for item in dataset] == [2 * n for n in range(1_203)]
    assert len(client.get_dataset("versions", splits=["odd"])) == 601
    then = dt.datetime.now(dt.UTC)
    item = client.create_dataset_item(
        dataset_name="versions", id="mine", input={"n": -1}, expected_output=[], metadata={"why": "edge"},
        splits=["edge"], source_trace_id="0" * 31 + "7", source_observation_id="0" * 15 + "9",
    )  # fmt: skip
    assert (item.version, item.metadata, item.splits, item.expected_output) == (1_205, {"why": "edge"}, ("edge",), [])
    assert (item.source_trace_id, item.source_observation_id) == ("0" * 31 + "7", "0" * 15 + "9")
    again = client.create_dataset_item(dataset_name="versions", id="mine", input={"n": -2})
    assert (again.version, again.input, again.metadata) == (1_206, {"n": -2}, None)
    assert client.archive_dataset_items("versions", ["mine"]) == 1_207
    versions = {number: client.get_dataset("versions", version=number) for number in (1_204, 1_205, 1_206, 1_207)}
    assert [len(each) for each in versions.values()] == [1_203, 1_204, 1_204, 1_203]
    assert [versions[number].items[-1].input["n"] for number in (1_205, 1_206)] == [-1, -2]
    assert client.get_dataset("versions", as_of=then).version == 1_204
    assert client.get_dataset("versions", version=then).pinned


async def test_versions_are_exact(client: Lodestream) -> None:
    await asyncio.to_thread(exact_versions, client)


# --- Experiments ------------------------------------------------------------------------------------------------------


@observe(as_type="tool")
def doubled(number: int) -> int:
    return 2 * number


def task(*, item: Any, **_: Any) -> int:
    if item.input["n"] == 3:
        raise ValueError("not three")
    return doubled(item.input["n"])


def correct(*, output: int, expected_output: int, **_: Any) -> Evaluation:
    return Evaluation(name="correct", value=output == expected_output, comment="by the sum")


def accuracy(*, item_results: Any, **_: Any) -> Evaluation:
    return Evaluation(name="accuracy", value=sum(item.value("correct") is True for item in item_results) / 8)


async def test_a_run_is_at_the_server_what_it_is_here(shared_stack: Stack, client: Lodestream) -> None:
    dataset = await asyncio.to_thread(sums, client, "whole way", 8)
    result = await dataset.run_experiment_async(
        name="doubling", run_name="first", task=task, repetitions=2, metadata={"commit": "abc"},
        evaluators=[correct, {"kind": "exact_match"}],
        run_evaluators=[accuracy, {"kind": "pass_rate", "of": "correct"}],
    )  # fmt: skip
    assert (len(result), len(result.failed), result.receipt.complete) == (16, 2, True)
    run = await run_of(shared_stack, client, result.run_id)
    assert (run.state, run.items_total, run.items_finished, run.items_failed) == (
        pb.EXPERIMENT_STATE_COMPLETED,
        16,
        16,
        2,
    )
    assert (run.dataset_name, run.request.dataset_version, run.request.name) == ("whole way", dataset.version, "first")
    summaries = {each.name: (each.count, each.mean) for each in run.evaluations}
    assert summaries == {"correct": (14, 1.0), "exact_match": (14, 1.0)}
    assert {each.name: each.numeric for each in run.run_evaluations} == {
        each.name: pytest.approx(float(each.value)) for each in result.run_evaluations
    }
    here, there = result.report().run, run
    assert {(each.name, each.count, each.mean) for each in here.evaluations} == {
        (each.name, each.count, each.mean) for each in there.evaluations
    }
    item = result.items[2]
    request = GetTraceRequest(trace_id=item.trace_id, wait_for=waiting(client.position))
    trace = await shared_stack.ask(shared_stack.query.GetTrace, request)
    assert sorted(span.name for span in trace.spans) == ["correct", "doubled", "experiment-item", "task"]
    scores = await shared_stack.ask(
        shared_stack.scores.ListScores, ListScoresRequest(page_size=1_000, wait_for=waiting(client.position))
    )
    assert {score.score_id for score in scores.scores} >= ids_of_scores(result)

    again = await dataset.run_experiment_async(name="doubling", run_name="first", task=task, repetitions=2)
    assert [(each.output, each.error, each.trace_id, each.evaluations) for each in again] == [
        (each.output, each.error, each.trace_id, each.evaluations) for each in result
    ]
    with pytest.raises(ExperimentRefusedError, match="another run: its repetitions are 2, now 1"):
        await dataset.run_experiment_async(name="doubling", run_name="first", task=task)


def ids_of_scores(result: Any) -> set[str]:
    """Of all that was said."""
    said = [judgement for item in result for judgement in item.judgements]
    ids = {judgement.score_id for judgement in (*said, *result.run_judgements)}
    assert len(ids) == len(said) + len(result.run_judgements)
    return ids


async def test_two_runs_are_compared_with_what_is_not_chance(client: Lodestream, tmp_path: Path) -> None:
    dataset = await asyncio.to_thread(sums, client, "compared", 30)

    async def run(name: str, wrong_by: int) -> Any:
        def its_task(item: Any) -> Any:
            return 2 * item.input["n"] + wrong_by * (item.input["n"] % 2)

        return await dataset.run_experiment_async(name="e", run_name=name, task=its_task, evaluators=[correct])

    one, two = await run("one", 0), await run("two", 1)
    compared = await asyncio.to_thread(two.compare, "one", metrics=["correct"])
    (metric,) = (each for each in compared.metrics if each.metric == "correct")
    assert (metric.pairs, metric.regressed, metric.improved) == (30, 15, 0)
    assert metric.verdict == pb.METRIC_VERDICT_WORSE
    assert (await asyncio.to_thread(two.compare, one)).baseline.request.name == "one"
    for suffix in ("md", "html", "xml", "json", "txt"):
        text = two.save(tmp_path / f"report.{suffix}", compared).read_text(encoding="utf-8")
        assert "correct" in text, suffix


async def test_local_data_travel_with_the_results(shared_stack: Stack, client: Lodestream) -> None:
    data = [{"input": n, "expected_output": 2 * n, "metadata": {"n": n}} for n in range(5)]

    def gate(items: Any) -> None:
        raise RegressionError(metric="accuracy", value=0.2, threshold=0.9)

    with pytest.raises(RegressionError) as raised:
        await client.run_experiment_async(
            name="local", data=data, task=lambda item: 2 * item["input"], evaluators=[correct], run_evaluators=[gate]
        )
    result = raised.value.result
    assert result is not None
    run = await run_of(shared_stack, client, result.run_id)
    assert (run.state, run.items_finished, run.dataset_name) == (pb.EXPERIMENT_STATE_COMPLETED, 5, "")
    request = pb.ListExperimentItemsRequest(run_id=result.run_id, with_dataset_items=True)
    answer = await shared_stack.ask(shared_stack.experiments.ListExperimentItems, request)
    assert sorted(json.loads(it.item.input_json or it.result.input_json) for it in answer.items) == list(range(5))


async def test_a_gateway_that_dies_gets_all_of_it_when_it_is_back(
    shared_stack: Stack, client: Lodestream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_DELIVERY_SECONDS", 0.5)
    dataset = await asyncio.to_thread(sums, client, "outage", 12)

    async def killing(item: Any) -> int:
        if item.input["n"] == 4:
            shared_stack.gateway.kill()
        return 2 * int(item.input["n"])

    result = await dataset.run_experiment_async(
        name="outage", run_name="r", task=killing, evaluators=[correct], max_concurrency=1
    )
    assert [item.output for item in result] == [2 * n for n in range(12)]
    assert (result.receipt.pending > 0, result.receipt.durable) == (True, True)
    await shared_stack.gateway.start()
    receipt = await asyncio.to_thread(client.flush, 60)
    assert receipt.complete, receipt
    run = await run_of(shared_stack, client, result.run_id)
    assert (run.state, run.items_finished) == (pb.EXPERIMENT_STATE_COMPLETED, 12)


async def test_a_run_that_is_paused_and_cancelled_at_the_server_ends_here(
    shared_stack: Stack, client: Lodestream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sdk_runs, "LOOK_SECONDS", 0.05)
    dataset = await asyncio.to_thread(sums, client, "cancelled", 40)
    begun: list[int] = []

    async def slow(item: Any) -> int:
        begun.append(item.input["n"])
        await asyncio.sleep(0.05)
        return 2 * int(item.input["n"])

    running_here = asyncio.create_task(
        dataset.run_experiment_async(name="e", run_name="r", task=slow, max_concurrency=1)
    )
    await until(lambda: len(begun) >= 3, what="three items are begun")
    (run,) = [each for each in await runs(shared_stack) if each.dataset_name == "cancelled"]
    pause = pb.PauseExperimentRequest(run_id=run.request.run_id)
    await shared_stack.ask(shared_stack.experiments.PauseExperiment, pause)
    await until(lambda: "'r' is paused" in caplog.text, what="the pause is heeded")
    before = len(begun)
    cancel = pb.CancelExperimentRequest(run_id=run.request.run_id, reason="enough")
    await shared_stack.ask(shared_stack.experiments.CancelExperiment, cancel)
    with pytest.raises(ExperimentStoppedError, match=r"'r' was cancelled \(enough\): \d+ of 40 items were done"):
        await running_here
    ended = await run_of(shared_stack, client, run.request.run_id)
    assert (ended.state, ended.items_finished) == (pb.EXPERIMENT_STATE_CANCELLED, len(begun))
    assert len(begun) <= before + 1 < 40
    with pytest.raises(ExperimentRefusedError, match="to run it again, give it another name"):
        await dataset.run_experiment_async(name="e", run_name="r", task=slow)


async def runs(stack: Stack) -> list[pb.ExperimentRun]:
    return list((await stack.ask(stack.experiments.ListExperiments, pb.ListExperimentsRequest())).runs)


# --- Killed -----------------------------------------------------------------------------------------------------------

PROGRAM = """
import json, os, time
from lodestream import get_client

def task(item):
    os.write(1, b"began\\n")
    time.sleep(0.02)
    return 2 * item.input["n"]

def correct(output, expected):
    return output == expected

result = get_client().get_dataset("killed").run_experiment(
    name="killed", run_name="nightly", task=task, evaluators=[correct], max_concurrency=4, repetitions=2,
)
receipt = get_client().flush(30)
assert receipt.complete, receipt
told = [[it.input["n"], it.repetition, it.output, it.value("correct"), it.trace_id] for it in result]
print("result " + json.dumps({"items": told, "position": get_client().position}))
"""


async def test_programs_that_are_killed_leave_a_run_that_goes_on(
    shared_stack: Stack, client: Lodestream, tmp_path: Path
) -> None:
    await asyncio.to_thread(sums, client, "killed", 25)
    chance = random.Random(7)
    for _ in range(3):
        process = await program(shared_stack, tmp_path / "spool")
        assert process.stdout is not None
        for _ in range(chance.randrange(4, 20)):
            assert await asyncio.wait_for(process.stdout.readline(), 60) == b"began\n"
        process.send_signal(signal.SIGKILL)
        await process.communicate()
    process = await program(shared_stack, tmp_path / "spool")
    out, err = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, err.decode()
    told = json.loads(out.decode().splitlines()[-1].removeprefix("result "))
    assert [item[:4] for item in told["items"]] == [[n, r, 2 * n, True] for r in range(2) for n in range(25)]
    (run,) = [run for run in await runs(shared_stack) if run.dataset_name == "killed"]
    request = pb.GetExperimentRequest(run_id=run.request.run_id, wait_for=waiting(told["position"]))
    run = (await shared_stack.ask(shared_stack.experiments.GetExperiment, request)).run
    assert (run.state, run.items_finished, run.items_failed) == (pb.EXPERIMENT_STATE_COMPLETED, 50, 0)
    listing = pb.ListExperimentItemsRequest(run_id=run.request.run_id, page_size=1_000)
    items = (await shared_stack.ask(shared_stack.experiments.ListExperimentItems, listing)).items
    assert {item.result.trace_id.hex() for item in items} == {item[4] for item in told["items"]}
    assert len(items) == 50


async def program(stack: Stack, spool: Path) -> asyncio.subprocess.Process:
    environment = {
        **os.environ,
        "LODESTREAM_ENDPOINT": stack.address,
        "LODESTREAM_SECRET_KEY": stack.keys["acme"].secret_key,
        "LODESTREAM_SPOOL_DIR": str(spool),
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
