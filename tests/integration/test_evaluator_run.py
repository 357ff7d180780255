"""A run of a prompt over a dataset comes to its end: a result, a trace and its scores for each item and repetition."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import uuid4

import pytest
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import EXPERIMENT_OUTCOME_COMPLETED, EXPERIMENT_OUTCOME_FAILED
from lodestream_proto.v1.score_event_pb2 import SCORE_SOURCE_EVALUATOR
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from shared.rules.experiment_ids import dataset_id_of
from shared.spans.blocks import open_block
from tests.support.evaluating import Workplace, working
from tests.support.experiment_runs import (
    CONTAINS,
    KNOWN,
    append_events,
    ended,
    furnish,
    furnish_dataset,
    furnish_prompt,
    item_finished,
    requested,
)
from tests.support.model_server import Says
from tests.support.polling import until


@pytest.fixture(scope="module")
async def place(ground, servers, template, tmp_path_factory) -> AsyncIterator[Workplace]:
    """One worker for all tests of this file; each has a project of its own."""
    async with working(ground, servers, template, tmp_path_factory.mktemp("providers")) as workplace:
        await workplace.worker(LODESTREAM_EVALUATOR_ATTEMPTS="2")
        yield workplace


@pytest.fixture
def project() -> str:
    return f"p{uuid4().hex[:10]}"


def spans_of(event: bytes) -> dict[str, tuple[Span, dict[str, str]]]:
    """The spans of a record by their names, each with its attributes as texts."""
    recorded = Event.FromString(event).spans_recorded
    request = open_block(recorded.compression, recorded.otlp_request)
    return {
        span.name: (span, {each.key: each.value.string_value or str(each.value.int_value) for each in span.attributes})
        for span in request.resource_spans[0].scope_spans[0].spans
    }


async def test_each_item_has_a_result_a_trace_and_its_scores(place, project) -> None:
    await furnish(place.dsn, project, 10)
    await append_events(place.servers.kafka, requested("r", project=project, repetitions=2))
    published = await ended(place.log, project, "r")

    results = published.of("r")
    assert published.places("r") == {(f"item-{n:05}", repetition) for n in range(10) for repetition in range(2)}
    assert len(published.traces) == len({result.trace_id for result in results}) == 20
    assert published.endings["r"][0].outcome == EXPERIMENT_OUTCOME_COMPLETED
    for result in results:
        assert json.loads(result.output_json) == KNOWN
        assert (result.error, result.attempts) == ("", 1)
        assert result.usage.input_tokens > result.usage.output_tokens > 0
        assert (
            result.usage.cost_picodollars
            == (result.usage.input_tokens * 2 + result.usage.output_tokens * 8) * 1_000_000
        )
        kinds = {each.name: each.WhichOneof("value") for each in result.evaluations}
        assert kinds == {"says-days": "boolean", "long": "numeric"}
    evaluations = {(result.trace_id, each.name, each.score_id) for result in results for each in result.evaluations}
    assert {(score.target.trace_id, score.name, score.score_id) for score in published.scored()} == evaluations
    assert {(score.source, score.environment) for score in published.scored()} == {
        (SCORE_SOURCE_EVALUATOR, "experiment")
    }
    assert all(score.evaluator_version for score in published.scored())


async def test_the_trace_tells_what_was_asked_answered_and_said(place, project) -> None:
    await furnish(place.dsn, project, 1)
    await append_events(place.servers.kafka, requested("r", project=project, name="spring"))
    published = await ended(place.log, project, "r")
    ((event,),) = published.traces.values()
    spans = spans_of(event)
    assert list(spans) == ["spring", "answer", "says-days", "long"]
    root, about = spans["spring"]
    assert {span.parent_span_id for span, _ in spans.values()} == {b"", root.span_id}
    assert about["lodestream.observation.metadata.dataset"] == '"questions"'
    assert about["lodestream.observation.metadata.run_id"] == '"r"'
    assert about["lodestream.observation.output"] == KNOWN
    _, generation = spans["answer"]
    assert generation["lodestream.observation.prompt.name"] == "answer"
    assert generation["lodestream.observation.prompt.version"] == "1"
    assert "How many days does it take?" in generation["lodestream.observation.input"]
    assert {attributes["lodestream.environment"] for _, attributes in spans.values()} == {"experiment"}


async def test_what_can_not_be_run_fails_with_the_reason(place, project) -> None:
    await furnish(place.dsn, project, 1)
    wrong = {
        "no-prompt": requested("no-prompt", project=project, prompt_version=7),
        "no-dataset": requested("no-dataset", project=project, dataset_id=dataset_id_of("other")),
        "no-version": requested("no-version", project=project, dataset_version=9),
        "no-evaluator": requested("no-evaluator", project=project, evaluators=[{"kind": "guess"}]),
        "no-task": requested("no-task", project=project, task_json='{"kind": "prompt"}'),
    }
    await append_events(place.servers.kafka, *wrong.values())
    published = await ended(place.log, project, "no-evaluator", "no-task")
    assert not published.endings.keys() & {"no-dataset", "no-version"}, "they may be on their way"
    await place.projections_have_caught_up()
    published = await ended(place.log, project, *wrong)
    reasons = {run_id: endings[0].reason for run_id, endings in published.endings.items()}
    assert {endings[0].outcome for endings in published.endings.values()} == {EXPERIMENT_OUTCOME_FAILED}
    assert reasons["no-prompt"] == "task_json.prompt: there is no version 7 of the prompt 'answer'"
    assert reasons["no-dataset"] == "dataset_version: the dataset has no version 1; there is no such dataset"
    assert reasons["no-version"] == "dataset_version: the dataset has no version 9; it is at 1"
    assert reasons["no-evaluator"].startswith("evaluators_json: ")
    assert reasons["no-task"] == "task_json.prompt: is missing"
    assert not published.results


async def test_what_is_on_its_way_is_waited_for(place, project) -> None:
    """The run is known before its dataset is."""
    await furnish_prompt(place.dsn, project)
    await append_events(place.servers.kafka, requested("r", project=project))
    count = "SELECT count(*) FROM evaluator.runs WHERE project_id = $1"
    await until(lambda: place.value(count, project), what="the run")
    await furnish_dataset(place.dsn, project, 3)
    published = await ended(place.log, project, "r")
    assert len(published.of("r")) == 3


async def test_an_item_that_fails_is_a_result_and_costs_only_itself(place, project) -> None:
    """One question is refused, one has no answer after all tries, an evaluator fails; the others are answered."""
    await furnish(place.dsn, project, 6)

    def answer(_: int, body: dict[str, Any]) -> Says | None:
        prompt = body["messages"][-1]["content"]
        if body.get("user") != project:
            return None
        if "(1)" in prompt:
            return Says(status=400, raw=b'{"error": {"message": "no such thing"}}')
        return Says(status=503, raw=b"{}") if "(2)" in prompt else None

    place.answers.append(answer)
    judges: list[Mapping[str, Any]] = [CONTAINS, {"kind": "numeric_tolerance", "name": "near", "absolute": 1}]
    run = requested("r", project=project, provider="here", evaluators=judges, settings={"user": project})
    await append_events(place.servers.kafka, run)
    published = await ended(place.log, project, "r")
    results = {result.item_id: result for result in published.of("r")}
    assert published.endings["r"][0].outcome == EXPERIMENT_OUTCOME_COMPLETED
    assert len(results) == len(published.traces) == 6
    assert results["item-00001"].error == "400: no such thing"
    assert (results["item-00001"].attempts, results["item-00002"].attempts) == (1, 2)
    assert results["item-00002"].error.startswith("after 2 attempts: 503")
    assert sum(not result.error for result in results.values()) == 4
    kinds = {each.name: each.WhichOneof("value") for each in results["item-00000"].evaluations}
    assert kinds == {"says-days": "boolean", "near": "error"}
    assert Counter(score.name for score in published.scored()) == {"says-days": 4}
    assert set(place.model.keys.values()) == {1, 2}, "each try of a question has the question's key"


async def test_run_evaluators_see_all_results(place, project) -> None:
    """They need the experiments read model, which is written here as its projection writes it."""
    await furnish(place.dsn, project, 4)
    judges = [{"kind": "pass_rate", "name": "passed", "of": "says-days"}]
    await append_events(place.servers.kafka, requested("r", project=project, run_evaluators=judges))

    async def all_results() -> bool:
        return len((await place.log.read(project)).of("r")) == 4

    await until(all_results)
    published = await place.log.read(project)
    assert not published.endings
    for result in published.of("r"):
        await place.value(
            "INSERT INTO experiments.experiment_items VALUES ($1, 'r', $2, 0, false, 1, 1, now(), $3, $4) RETURNING 1",
            project, result.item_id, result.trace_id, result.SerializeToString(),
        )  # fmt: skip
    published = await ended(place.log, project, "r")
    (ending,) = published.endings["r"]
    (evaluation,) = ending.evaluations
    assert (evaluation.name, evaluation.numeric) == ("passed", 1.0)
    (score,) = [score for score in published.scored() if score.target.run_id]
    assert (score.score_id, score.value.numeric) == (evaluation.score_id, 1.0)


async def test_what_the_log_has_is_not_run_again(place, project) -> None:
    """As when the tables are lost: the log tells the run and some of its results before anything is planned."""
    await furnish_prompt(place.dsn, project)
    await append_events(
        place.servers.kafka,
        requested("r", project=project),
        requested("r", project=project, repetitions=7),
        item_finished("r", "item-00001", project=project),
        item_finished("r", "item-00003", project=project),
        item_finished("a program's", "item-00003", project=project),
    )
    await furnish_dataset(place.dsn, project, 5)
    published = await ended(place.log, project, "r")
    outputs = {result.item_id: json.loads(result.output_json) for result in published.of("r")}
    assert len(outputs) == 5
    assert {item for item, output in outputs.items() if output == "told before"} == {"item-00001", "item-00003"}
    assert len(published.traces) == 3
    assert await place.value("SELECT count(*) FROM evaluator.runs WHERE project_id = $1", project) == 1


async def test_splits_choose_items(place, project) -> None:
    await furnish(place.dsn, project, 9)
    await append_events(
        place.servers.kafka,
        requested("hard", project=project, splits=["hard"]),
        requested("none", project=project, splits=["no such"]),
    )
    published = await ended(place.log, project, "hard", "none")
    assert published.places("hard") == {("item-00000", 0), ("item-00004", 0), ("item-00008", 0)}
    assert not published.places("none")
    assert {endings[0].outcome for endings in published.endings.values()} == {EXPERIMENT_OUTCOME_COMPLETED}
