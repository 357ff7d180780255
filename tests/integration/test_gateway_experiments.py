"""Runs by way of the gateway: asked for, moved, told of and ended; each means one thing for ever."""

import asyncio
import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import asyncpg
import grpc
import pytest
from lodestream_proto.v1 import datasets_pb2 as datasets
from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import (
    DatasetCreated,
    DatasetItemRecorded,
    ExperimentBudget,
    ExperimentFinished,
    ExperimentPaused,
    ExperimentRequested,
)
from lodestream_proto.v1.ingest_pb2 import EVENT_OUTCOME_ACCEPTED, EVENT_OUTCOME_REFUSED, RecordRequest, StreamRequest
from lodestream_proto.v1.ingest_pb2_grpc import IngestServiceStub
from lodestream_proto.v1.prompt_event_pb2 import PromptLabelsMoved, PromptVersionCreated
from lodestream_proto.v1.prompts_pb2 import CreatePromptRequest, MoveLabelsRequest

from shared.event_log.topics import EXPERIMENTS
from shared.rules.experiment_ids import dataset_id_of, run_id_of
from shared.rules.experiments import MAX_RESULT_BYTES
from shared.storage import provider_access
from tests.conftest import StartService
from tests.support.experiments import evaluation, result, told
from tests.support.gateway import MODULE, new_key, opened, refusal, retry_delay
from tests.support.servers import Servers
from tests.support.stack import Stack

SDK = '{"kind": "sdk"}'
RUNNING, PAUSED = pb.EXPERIMENT_STATE_RUNNING, pb.EXPERIMENT_STATE_PAUSED
COMPLETED, CANCELLED = pb.EXPERIMENT_STATE_COMPLETED, pb.EXPERIMENT_STATE_CANCELLED


async def fill(stack: Stack, name: str, *item_ids: str, project: str = "acme", splits: Sequence[str] = ()) -> None:
    """The dataset with items more; each is a version more."""
    created = datasets.CreateDatasetRequest(dataset=DatasetCreated(name=name))
    await stack.ask(stack.datasets.CreateDataset, created, project=project)
    items = [
        DatasetItemRecorded(item_id=item_id, input_json=json.dumps(item_id), splits=splits) for item_id in item_ids
    ]
    request = datasets.RecordItemsRequest(dataset_name=name, items=items)
    await stack.ask(stack.datasets.RecordItems, request, project=project)


def asked(
    name: str, *, of: str = "", task: Any = SDK, selector: Any = None, **fields: Any
) -> pb.StartExperimentRequest:
    task_json = task if isinstance(task, str) else json.dumps(task)
    selector = selector or (datasets.DatasetSelector(name=of) if of else None)
    return pb.StartExperimentRequest(
        experiment=ExperimentRequested(name=name, task_json=task_json, **fields), dataset=selector
    )


async def start(stack: Stack, request: pb.StartExperimentRequest, project: str = "acme") -> pb.StartExperimentResponse:
    answer: pb.StartExperimentResponse = await stack.ask(stack.experiments.StartExperiment, request, project=project)
    return answer


async def move(stack: Stack, verb: str, run_id: str, project: str = "acme") -> Any:
    request = getattr(pb, f"{verb}ExperimentRequest")(run_id=run_id, author="ada")
    return await stack.ask(getattr(stack.experiments, f"{verb}Experiment"), request, project=project)


async def got(stack: Stack, run_id: str, position: str) -> pb.ExperimentRun:
    request = pb.GetExperimentRequest(run_id=run_id)
    request.wait_for.position, request.wait_for.timeout_ms = position, 10_000
    answer: pb.GetExperimentResponse = await stack.ask(stack.experiments.GetExperiment, request)
    return answer.run


async def test_a_run_is_over_the_version_that_was_there_and_the_same_request_is_the_same_run(
    shared_stack: Stack,
) -> None:
    await fill(shared_stack, "versions", "a", "b")
    first = await start(shared_stack, asked("first", of="versions", author="ada"))
    run = first.run
    assert first.created
    assert first.position.startswith(EXPERIMENTS)
    assert (run.state, run.dataset_name, run.items_total) == (RUNNING, "versions", 2)
    assert run.request.run_id == run_id_of(dataset_id_of("versions"), "first")
    assert (run.request.dataset_version, run.request.repetitions, run.request.max_concurrency) == (3, 1, 8)

    await fill(shared_stack, "versions", "c")
    again = await start(shared_stack, asked("first", of="versions", author="bob"))
    assert (again.created, again.run.request) == (False, run.request), "what was left open means the same for ever"
    second = await start(shared_stack, asked("second", of="versions"))
    assert (second.run.request.dataset_version, second.run.items_total) == (4, 3)
    old = datasets.DatasetSelector(name="versions", version=2)
    third = await start(shared_stack, asked("third", selector=old, run_id="mine"))
    assert (third.run.request.dataset_version, third.run.items_total, third.run.request.run_id) == (2, 1, "mine")
    then = datasets.DatasetSelector(name="versions")
    then.as_of.FromNanoseconds(run.requested_at.ToNanoseconds())
    fourth = await start(shared_stack, asked("fourth", selector=then))
    assert fourth.run.request.dataset_version == 3
    by_id = asked("fifth", dataset_id=dataset_id_of("versions"), dataset_version=1, description="by its id")
    error = await refusal(start(shared_stack, by_id))
    assert (error.code(), "has no items" in (error.details() or "")) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    by_id.experiment.dataset_version = 2
    assert (await start(shared_stack, by_id)).run.items_total == 1

    for request, reason in (
        (asked("first", of="versions", repetitions=2), "differs in repetitions"),
        (asked("other", of="versions", run_id="mine"), "run 'mine' is another one: it differs in name"),
        (
            asked("third", of="versions"),
            "experiment.name: 'third' is the name of a run over this dataset already, 'mine'",
        ),
        (asked("first", selector=old), "differs in dataset_version"),
    ):
        error = await refusal(start(shared_stack, request))
        assert error.code() == grpc.StatusCode.ALREADY_EXISTS
        assert reason in (error.details() or "")


async def test_a_provider_that_nobody_offers_and_a_setting_that_is_not_a_runs_are_refused_by_name(
    shared_stack: Stack,
) -> None:
    await fill(shared_stack, "provided", "a")
    prompt = PromptVersionCreated(prompt_name="provided", text="Hi", labels=["production"])
    await shared_stack.ask(shared_stack.prompts.CreatePrompt, CreatePromptRequest(prompt=prompt))
    task = {"kind": "prompt", "prompt": {"name": "provided"}, "provider": "mock", "model": "mock-large"}
    judge = {"kind": "llm_judge", "rubric": "Is it?", "provider": "nowhere", "model": "m"}
    judged = json.dumps([{"kind": "contains", "value": "a"}, judge])
    may = "there is no provider 'nowhere'; the project may use mock"
    may_not = "is not for a run to set; it may set frequency_penalty"
    setting = json.dumps([{**judge, "provider": "mock", "settings": {"chat_template": "x"}}])
    for request, reason in (
        (asked("task", of="provided", task={**task, "provider": "nowhere"}), f"task_json.provider: {may}"),
        (asked("judge", of="provided", task=task, evaluators_json=judged), f"evaluators_json[1].provider: {may}"),
        (
            asked("task", of="provided", task={**task, "settings": {"api_base": "http://h"}}),
            f"task_json.settings.api_base: {may_not}",
        ),
        (
            asked("task", of="provided", task={**task, "settings": {"temperature": 9}}),
            "task_json.settings.temperature: is a number from 0 to 2",
        ),
        (
            asked("judge", of="provided", task=task, evaluators_json=setting),
            f"evaluators_json[0].settings.chat_template: {may_not}",
        ),
    ):
        error = await refusal(start(shared_stack, request))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert (error.details() or "").startswith(f"experiment.{reason}")
    assert (await start(shared_stack, asked("own", of="provided", evaluators_json=judged))).created, (
        "a program asks by itself"
    )
    connection = await asyncpg.connect(shared_stack.dsn)
    try:
        await provider_access.grant(connection, "acme", "mock", ["mock-small"])
        error = await refusal(start(shared_stack, asked("model", of="provided", task=task)))
        its = "experiment.task_json.model: the project may use mock-small of it, not 'mock-large'"
        assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, its)
        await provider_access.revoke(connection, "acme", "mock")
        await provider_access.set_cap(connection, "acme", "day", picodollars=Decimal(0), tokens=0)
        error = await refusal(start(shared_stack, asked("cap", of="provided", task=task)))
        its = "the spending cap is reached: the project may spend $0 in a day"
        assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, its)
        await provider_access.remove_cap(connection, "acme", "day")
    finally:
        await connection.close()
    assert (await start(shared_stack, asked("all", of="provided", task=task))).created


async def test_a_prompt_by_label_is_one_version_for_ever(shared_stack: Stack) -> None:
    await fill(shared_stack, "prompted", "a")
    for text in ("Hi", "Hello"):
        prompt = PromptVersionCreated(prompt_name="greet", text=text, labels=["beta"])
        await shared_stack.ask(shared_stack.prompts.CreatePrompt, CreatePromptRequest(prompt=prompt))
    task = {"kind": "prompt", "prompt": {"name": "greet", "label": "beta"}, "provider": "mock", "model": "mock-large"}
    rubric = {"kind": "llm_judge", "prompt": {"name": "greet", "label": "beta"}, "provider": "mock", "model": "m"}
    specs, budget = json.dumps([{"kind": "contains", "value": "Hello"}, rubric]), ExperimentBudget(max_cost_usd=1)
    request = asked("labelled", of="prompted", task=task, evaluators_json=specs, budget=budget)
    run = (await start(shared_stack, request)).run
    kept = json.loads(run.request.task_json)
    assert kept == {**task, "prompt": {"name": "greet", "label": "beta", "version": 2}}
    contains, judge = json.loads(run.request.evaluators_json)
    assert (contains["value"], judge) == ("Hello", {**rubric, "prompt": {"name": "greet", "version": 2}})
    move_back = PromptLabelsMoved(prompt_name="greet", version=1, labels=["beta"])
    await shared_stack.ask(shared_stack.prompts.MoveLabels, MoveLabelsRequest(move=move_back))
    again = await start(shared_stack, request)
    assert (again.created, again.run.request) == (False, run.request)
    newer = await start(shared_stack, asked("newer", of="prompted", task=task))
    assert json.loads(newer.run.request.task_json)["prompt"]["version"] == 1
    for its, reason in (
        ({"name": "greet"}, "label 'production' of a prompt 'greet'"),
        ({"name": "greet", "version": 3}, "version 3 of a prompt 'greet'"),
        ({"name": "greeting", "version": 1}, "version 1 of a prompt 'greeting'"),
    ):
        judged = json.dumps([{**rubric, "prompt": its}])
        for wrong in (
            asked("nothing", of="prompted", task={**task, "prompt": its}),
            asked("nothing", of="prompted", task=task, evaluators_json=judged),
        ):
            error = await refusal(start(shared_stack, wrong))
            assert (error.code(), reason in (error.details() or "")) == (grpc.StatusCode.NOT_FOUND, True), error


async def test_a_run_is_paused_resumed_and_cancelled(shared_stack: Stack) -> None:
    await fill(shared_stack, "moved", "a")
    run_id = (await start(shared_stack, asked("moved", of="moved"))).run.request.run_id
    for verb, state in (
        ("Pause", PAUSED), ("Pause", PAUSED), ("Resume", RUNNING), ("Pause", PAUSED), ("Cancel", CANCELLED),
    ):  # fmt: skip
        answer = await move(shared_stack, verb, run_id)
        assert (answer.run.state, answer.position.startswith(EXPERIMENTS)) == (state, True)
    assert (await move(shared_stack, "Cancel", run_id)).run.state == CANCELLED, "the same again does no harm"
    for verb in ("Pause", "Resume"):
        error = await refusal(move(shared_stack, verb, run_id))
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert f"run '{run_id}' has ended: cancelled" in (error.details() or "")
    for verb in ("Pause", "Resume", "Cancel"):
        error = await refusal(move(shared_stack, verb, "nowhere"))
        assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "this project has no run 'nowhere'")
        assert (await refusal(move(shared_stack, verb, ""))).code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_what_comes_of_items_is_told_by_record_and_stream_while_somebody_watches(shared_stack: Stack) -> None:
    await fill(shared_stack, "told", "a", "b", splits=["test"])
    request = asked("told", of="told", splits=["test"])
    run_id = (await start(shared_stack, request)).run.request.run_id
    watch = pb.WatchExperimentRequest(run_id=run_id, with_items=True)
    watching = shared_stack.experiments.WatchExperiment(watch, metadata=shared_stack.metadata())  # without a deadline
    seen = [await anext(aiter(watching))]

    answer = await shared_stack.record(
        *told(result(run_id, "a"), result("nowhere", "a"), result(run_id, "b", error="!"))
    )
    accepted, refused = EVENT_OUTCOME_ACCEPTED, EVENT_OUTCOME_REFUSED
    assert [each.outcome for each in answer.results] == [accepted, refused, accepted]
    where = "experiment_item_finished.run_id"
    assert (answer.results[1].field, answer.results[1].reason) == (where, "the project has no run 'nowhere'")
    run = await got(shared_stack, run_id, answer.position)
    assert (run.items_finished, run.items_failed, run.state) == (2, 1, RUNNING)

    async def requests() -> Any:
        late = told(result(run_id, "a", output_json='"too late"'))
        end = told(ExperimentFinished(run_id=run_id, evaluations=[evaluation("pass_rate", numeric=0.5)]))
        yield StreamRequest(record=RecordRequest(events=[*late, *end]))

    ingest: Any = IngestServiceStub(shared_stack.channel)
    (streamed,) = [each async for each in ingest.Stream(requests(), metadata=shared_stack.metadata(), timeout=15)]
    assert [each.outcome for each in streamed.recorded.results] == [accepted, accepted]
    run = await got(shared_stack, run_id, streamed.recorded.position)
    assert (run.state, run.items_finished, run.run_evaluations[0].numeric) == (COMPLETED, 2, 0.5)

    async with asyncio.timeout(15):
        seen += [each async for each in watching]
    assert [seen[0].run.state, seen[-1].run.state] == [RUNNING, COMPLETED]
    assert sorted(each.result.item_id for answer in seen for each in answer.items) == ["a", "b"]
    error = await refusal(move(shared_stack, "Cancel", run_id))
    assert (error.code(), "completed" in (error.details() or "")) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    again = await start(shared_stack, request)
    assert (again.created, again.run.state) == (False, COMPLETED)


async def test_the_largest_and_ugliest_result_is_kept_whole(shared_stack: Stack) -> None:
    run_id = (await start(shared_stack, asked("large", run_id="large"))).run.request.run_id
    output = json.dumps("é" * ((MAX_RESULT_BYTES - 600) // 6))  # six bytes each, and in no way compressed
    evaluations = [evaluation("text", text="a\0b", comment="\0"), evaluation("failed", error="\0")]
    finished = result(run_id, "a", output_json=output, error="broken\0", input_json='"?"', evaluations=evaluations)
    assert MAX_RESULT_BYTES - 1_000 < finished.ByteSize() <= MAX_RESULT_BYTES
    answer = await shared_stack.record(*told(finished))
    assert answer.results[0].outcome == EVENT_OUTCOME_ACCEPTED, answer.results[0].reason
    assert (await got(shared_stack, run_id, answer.position)).items_finished == 1
    call = shared_stack.experiments.ListExperimentItems(
        pb.ListExperimentItemsRequest(run_id=run_id), metadata=shared_stack.metadata(), timeout=15
    )
    (kept,) = (await call).items
    assert kept.result == finished


@pytest.mark.parametrize(
    ("payload", "rpc"),
    [
        ({"dataset_created": DatasetCreated(name="x")}, "DatasetService.CreateDataset"),
        ({"dataset_item_recorded": DatasetItemRecorded()}, "DatasetService.RecordItems"),
        ({"experiment_requested": ExperimentRequested()}, "ExperimentService.StartExperiment"),
        ({"experiment_paused": ExperimentPaused(run_id="r")}, "ExperimentService.PauseExperiment"),
    ],
)
async def test_the_other_events_are_taken_by_their_services(shared_stack: Stack, payload: Any, rpc: str) -> None:
    (only,) = (await shared_stack.record(Event(**payload))).results
    assert only.outcome == EVENT_OUTCOME_REFUSED
    assert (only.field, only.reason) == (next(iter(payload)), f"is taken by {rpc}, not by Record")


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        (asked("", of="there"), "INVALID_ARGUMENT", "experiment.name: is missing"),
        (asked("x", of="nowhere"), "NOT_FOUND", "no dataset 'nowhere'"),
        (asked("x", dataset_id="0" * 32), "NOT_FOUND", f"no dataset with the id '{'0' * 32}'"),
        (asked("x", dataset_id="x"), "INVALID_ARGUMENT", "experiment.dataset_id: is no 32 hex"),
        (asked("x", of="there", dataset_id="0" * 32), "INVALID_ARGUMENT", "experiment.dataset_id: is not that of"),
        (asked("x", of="there", dataset_version=9), "NOT_FOUND", "version 9 of dataset 'there': it is at version 2"),
        (
            asked("x", selector=datasets.DatasetSelector(name="there", version=2), dataset_version=1),
            "INVALID_ARGUMENT",
            "experiment.dataset_version: is 1, and the dataset's is 2",
        ),
        (asked("x", of="there", splits=["tset"]), "FAILED_PRECONDITION", "no items in any of the splits 'tset'"),
        (asked("x", of="there", repetitions=101), "INVALID_ARGUMENT", "experiment.repetitions: are 101; 1 to 100"),
        (asked("x", of="there", task="{"), "INVALID_ARGUMENT", "experiment.task_json: is no JSON"),
        (asked("x", of="there", task={"kind": "cron"}), "INVALID_ARGUMENT", "experiment.task_json.kind: 'cron'"),
        (
            asked("x", of="there", evaluators_json='[{"kind": "regex"}]'),
            "INVALID_ARGUMENT",
            "experiment.evaluators_json[0].pattern: is missing",
        ),
        (
            asked("x", of="there", budget=ExperimentBudget(max_cost_usd=float("nan"))),
            "INVALID_ARGUMENT",
            "experiment.budget.max_cost_usd: nan is no number",
        ),
        (asked("x", of="there", run_id="a\0"), "INVALID_ARGUMENT", "experiment.run_id: "),
        (asked("x", task={"kind": "prompt"}), "INVALID_ARGUMENT", "experiment.task_json.provider: is missing"),
    ],
)
async def test_a_run_is_refused_by_the_field_that_is_wrong(
    shared_stack: Stack, request_: pb.StartExperimentRequest, code: str, reason: str
) -> None:
    await fill(shared_stack, "there", "a")
    error = await refusal(start(shared_stack, request_))
    assert (error.code().name, reason in (error.details() or "")) == (code, True), error.details()


async def test_no_run_begins_over_an_archived_dataset_and_those_that_did_stay(shared_stack: Stack) -> None:
    await fill(shared_stack, "archived", "a")
    first = await start(shared_stack, asked("first", of="archived"))
    archive = datasets.ArchiveDatasetRequest(name="archived")
    await shared_stack.ask(shared_stack.datasets.ArchiveDataset, archive)
    error = await refusal(start(shared_stack, asked("second", of="archived")))
    assert (error.code(), "is archived" in (error.details() or "")) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    assert (await start(shared_stack, asked("first", of="archived"))).run.request == first.run.request


async def test_two_projects_never_see_each_others_runs(shared_stack: Stack) -> None:
    await fill(shared_stack, "apart", "a")
    await fill(shared_stack, "apart", "a", "b", project="other")
    run_id = (await start(shared_stack, asked("apart", of="apart"))).run.request.run_id
    for verb in ("Pause", "Resume", "Cancel", "Get"):
        request = getattr(pb, f"{verb}ExperimentRequest")(run_id=run_id)
        call = shared_stack.ask(getattr(shared_stack.experiments, f"{verb}Experiment"), request, project="other")
        assert (await refusal(call)).code() == grpc.StatusCode.NOT_FOUND
    strange = result(run_id, "a")
    (event,) = told(strange)
    event.project_id = "acme"
    (refused,) = (await shared_stack.record(event, project="other")).results
    assert refused.reason == f"the project has no run {run_id!r}"
    theirs = await start(shared_stack, asked("apart", of="apart"), "other")
    assert (theirs.created, theirs.run.request.run_id, theirs.run.items_total) == (True, run_id, 2)
    await move(shared_stack, "Cancel", run_id, "other")
    assert (await move(shared_stack, "Pause", run_id)).run.state == PAUSED


async def test_of_many_who_ask_for_one_run_at_the_same_time_all_get_the_same(shared_stack: Stack) -> None:
    await fill(shared_stack, "raced", "a")
    requests = [asked("raced", of="raced", description=f"{n % 2}") for n in range(20)]
    answers = await asyncio.gather(*(start(shared_stack, request) for request in requests), return_exceptions=True)
    taken = [each.run.request for each in answers if isinstance(each, pb.StartExperimentResponse)]
    refused = [each for each in answers if isinstance(each, grpc.aio.AioRpcError)]
    assert (len(taken), len(refused)) == (10, 10), answers
    assert all(request == taken[0] for request in taken)
    assert {error.code() for error in refused} == {grpc.StatusCode.ALREADY_EXISTS}


async def test_a_run_that_nobody_can_read_yet_is_told_with_its_place(
    servers: Servers, database: str, service: StartService
) -> None:
    """No query service answers: the log has the run all the same, and what came of its items waits for it."""
    key = await new_key(database)
    environment = {"LODESTREAM_POSTGRES": database, "LODESTREAM_QUERY": "127.0.0.1:9"}
    gateway = await service(MODULE, LODESTREAM_GATEWAY_QUOTA_BYTES_PER_SECOND="100", **environment)
    async with opened(gateway.address, key, kafka=servers.kafka) as door:
        call: Any = door.channel.unary_unary(
            "/lodestream_proto.v1.ExperimentService/StartExperiment",
            request_serializer=pb.StartExperimentRequest.SerializeToString,
        )
        error = await refusal(call(asked("unread", run_id="r"), metadata=door.bearer, timeout=2))
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert retry_delay(error) > 0
        (found,) = await door.at((error.details() or "").partition("run 'r' at ")[2].partition(",")[0])
        assert found.event is not None
        assert (found.topic, found.event.project_id) == (EXPERIMENTS, "acme")
        expected = ExperimentRequested(run_id="r", name="unread", task_json=SDK, repetitions=1, max_concurrency=8)
        assert found.event.experiment_requested == expected
        answer = await door.ingest.Record(RecordRequest(events=told(result("r"))), metadata=door.bearer, timeout=15)
        assert answer.results[0].outcome == EVENT_OUTCOME_REFUSED

        # Quotas are those of all writes: what is let in may leave a debt, that has to be paid off first.
        costly = asked("costly", run_id="costly", description="x" * 10_000)
        error = await refusal(call(costly, metadata=door.bearer, timeout=2))
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        error = await refusal(call(asked("next", run_id="next"), metadata=door.bearer, timeout=2))
        assert (error.code(), retry_delay(error) > 1) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
