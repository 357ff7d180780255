"""The whole way of an experiment: asked for at the gateway, run by a worker, folded, and answered."""

import json
from uuid import uuid4

import asyncpg
import pytest
from lodestream_proto.v1.datasets_pb2 import CreateDatasetRequest, DatasetSelector, RecordItemsRequest
from lodestream_proto.v1.experiment_event_pb2 import (
    DatasetCreated,
    DatasetItemRecorded,
    ExperimentBudget,
    ExperimentRequested,
)
from lodestream_proto.v1.experiments_pb2 import (
    EXPERIMENT_STATE_COMPLETED,
    ExperimentRun,
    GetExperimentRequest,
    ListExperimentItemsRequest,
    StartExperimentRequest,
)
from lodestream_proto.v1.prompt_event_pb2 import ChatMessage, ChatPrompt, ChatPromptItem, PromptVersionCreated
from lodestream_proto.v1.prompts_pb2 import CreatePromptRequest
from lodestream_proto.v1.query_pb2 import GetTraceRequest

from tests.support.evaluating import MODULE, QUICK
from tests.support.experiment_runs import KNOWN
from tests.support.polling import until


@pytest.fixture
async def with_worker(stack, service):
    """The stack, and a worker."""
    connection = await asyncpg.connect(stack.dsn)
    await connection.execute(
        "INSERT INTO lodestream.projection_positions (projection, topic, partition, next_offset)"
        " SELECT 'evaluator', topic, partition, next_offset FROM lodestream.projection_positions"
        " WHERE projection = 'experiments'"
    )
    await connection.close()
    environment = {"LODESTREAM_POSTGRES": stack.dsn, "LODESTREAM_EVALUATOR_GROUP": f"test-{uuid4().hex[:8]}"}
    await service(MODULE, **QUICK, **environment)
    return stack


async def test_from_start_to_answers(with_worker) -> None:
    stack = with_worker
    asking = {"metadata": stack.metadata(), "timeout": 15}
    items = [
        DatasetItemRecorded(input_json=json.dumps({"question": f"How many days? ({n})"}), expected_output_json='"14"')
        for n in range(12)
    ]
    await stack.datasets.CreateDataset(CreateDatasetRequest(dataset=DatasetCreated(name="refunds")), **asking)
    await stack.datasets.RecordItems(RecordItemsRequest(dataset_name="refunds", items=items), **asking)
    chat = [
        ChatPromptItem(message=ChatMessage(role="system", content=KNOWN)),
        ChatPromptItem(message=ChatMessage(role="user", content="{{question}}")),
    ]
    version = PromptVersionCreated(prompt_name="answer", chat=ChatPrompt(items=chat), labels=["production"])
    await stack.prompts.CreatePrompt(CreatePromptRequest(command_id=str(uuid4()), prompt=version), **asking)
    judges = [
        {"kind": "contains", "name": "says-days", "value": "14 days"},
        {"kind": "llm_judge", "name": "kind", "rubric": "Is it kind?", "provider": "mock", "model": "mock-large"},
    ]
    run = ExperimentRequested(
        name="spring",
        task_json=json.dumps(
            {"kind": "prompt", "prompt": {"name": "answer"}, "provider": "mock", "model": "mock-large"}
        ),
        evaluators_json=json.dumps(judges),
        run_evaluators_json=json.dumps([{"kind": "pass_rate", "name": "passed", "of": "says-days"}]),
        repetitions=2,
        max_concurrency=10,
        budget=ExperimentBudget(max_cost_usd=1),
    )
    request = StartExperimentRequest(experiment=run, dataset=DatasetSelector(name="refunds"))
    started = (await stack.experiments.StartExperiment(request, **asking)).run
    run_id = started.request.run_id

    async def completed() -> ExperimentRun | None:
        got = (await stack.experiments.GetExperiment(GetExperimentRequest(run_id=run_id), **asking)).run
        return got if got.state == EXPERIMENT_STATE_COMPLETED else None

    ended = await until(completed, deadline=30)
    assert ended is not None
    assert (ended.items_total, ended.items_finished, ended.items_failed) == (24, 24, 0)
    summaries = {each.name: each for each in ended.evaluations}
    assert (summaries["says-days"].count, summaries["says-days"].mean) == (24, 1.0)
    assert (summaries["kind"].count, summaries["kind"].errors) == (24, 0)
    assert [(each.name, each.numeric) for each in ended.run_evaluations] == [("passed", 1.0)]
    assert ended.usage.cost_picodollars > 0

    listing = ListExperimentItemsRequest(run_id=run_id, with_dataset_items=True)
    result = (await stack.experiments.ListExperimentItems(listing, **asking)).items[0].result
    assert json.loads(result.output_json) == KNOWN
    trace_id = result.trace_id.hex()

    async def shown():
        trace = await stack.query.GetTrace(GetTraceRequest(trace_id=trace_id), **asking)
        return trace if len(trace.scores) == 2 else None

    trace = await until(shown)
    spans = {span.name: span for span in trace.spans}
    assert set(spans) == {"spring", "answer", "says-days", "kind"}
    assert (spans["answer"].prompt_name, spans["answer"].prompt_version) == ("answer", 1)
    assert {score.name for score in trace.scores} == {"says-days", "kind"}
    assert {span.environment for span in trace.spans} == {"experiment"}
