"""The tenancy matrix: what the project "other" asks of each RPC, with ids of what belongs to the project "acme".

`REQUESTS` has an entry for every RPC of the contract. A read is also asked by its owner, who has to see the canary.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import lodestream_proto.v1
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from lodestream_proto.v1 import datasets_pb2 as datasets
from lodestream_proto.v1 import experiments_pb2 as experiments
from lodestream_proto.v1 import prompt_cache_pb2 as cache
from lodestream_proto.v1 import prompts_pb2 as prompts
from lodestream_proto.v1 import query_pb2 as query
from lodestream_proto.v1 import scores_pb2 as scores
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import (
    DatasetCreated,
    DatasetItemRecorded,
    ExperimentFinished,
    ExperimentRequested,
)
from lodestream_proto.v1.ingest_pb2 import RecordRequest, StreamRequest
from lodestream_proto.v1.prompt_event_pb2 import (
    PromptArchived,
    PromptLabelRolledBack,
    PromptLabelsMoved,
    PromptVersionCreated,
)
from lodestream_proto.v1.score_event_pb2 import ScoreTarget
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from tests.support.experiments import evaluation, result, told
from tests.support.gateway import request_of
from tests.support.polling import until
from tests.support.records import Value, span
from tests.support.scores import config, retraction, score
from tests.support.stack import Stack, waiting

CANARY = "canary-4f1b"
"""In every content of the owner's, and in no id."""
GATEWAY, QUERY = "gateway", "query"
_GATEWAY_ONLY = {"Export", "Record", "Stream"}
_QUERY_ONLY = {"GetPromptHeads"}
WRITES = {
    "CreatePrompt", "MoveLabels", "RollBackLabel", "ArchivePrompt", "DefineScoreConfig",
    "CreateDataset", "ArchiveDataset", "RecordItems", "ArchiveItems",
    "StartExperiment", "PauseExperiment", "ResumeExperiment", "CancelExperiment",
    "Export", "Record", "Stream",
}  # fmt: skip
LEFT_TO_GATEWAY = {*WRITES, "WatchPrompts"}
"""At the query port these are UNIMPLEMENTED for whoever has a key."""
WITHOUT_CONTENT = {"GetVerdict", "AggregateScores", "PromptMetrics", "GetStatus"}
"""Reads whose answer has no text of the project's: its owner sees no canary either."""


def rpcs() -> dict[str, MethodDescriptor]:
    """Every RPC of the contract by its path, found in the descriptors, and OTLP's."""
    modules = [
        importlib.import_module(f"{lodestream_proto.v1.__name__}.{module.name}")
        for module in pkgutil.iter_modules(lodestream_proto.v1.__path__)
        if module.name.endswith("_pb2")
    ]
    services = [service for module in modules for service in module.DESCRIPTOR.services_by_name.values()]
    services.append(trace_service_pb2.DESCRIPTOR.services_by_name["TraceService"])
    return {f"/{service.full_name}/{method.name}": method for service in services for method in service.methods}


def ports(method: MethodDescriptor) -> Sequence[str]:
    """Where an RPC is registered; at the query port also what is left to the gateway."""
    if method.name in _GATEWAY_ONLY:
        return (GATEWAY,)
    return (QUERY,) if method.name in _QUERY_ONLY else (GATEWAY, QUERY)


def answering_ports(method: MethodDescriptor) -> Sequence[str]:
    """Where a read or a stream is answered."""
    return [port for port in ports(method) if port == GATEWAY or method.name not in LEFT_TO_GATEWAY]


Metadata = Sequence[tuple[str, str]]


async def call(
    channel: grpc.aio.Channel, method: MethodDescriptor, request: Message | bytes, metadata: Metadata
) -> Any:
    """The answer; of a stream the first. Bytes are no request: a stream of requests is then opened and left alone."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    raw: Any = request if isinstance(request, bytes) else request.SerializeToString()
    read = GetMessageClass(method.output_type).FromString
    options: dict[str, Any] = {"metadata": tuple(metadata), "timeout": 60}
    if not method.server_streaming:
        unary: Any = channel.unary_unary(path, response_deserializer=read)
        return await unary(raw, **options)
    kind: Any = channel.stream_stream if method.client_streaming else channel.unary_stream
    stream = kind(path, response_deserializer=read)(*(() if method.client_streaming else (raw,)), **options)
    try:
        if method.client_streaming and not isinstance(request, bytes):
            await stream.write(raw)
        return await stream.read()
    finally:
        stream.cancel()


@dataclass(frozen=True, slots=True)
class Owned:
    """What the project "acme" has; all ids are known to "other"."""

    project_id: str
    trace: int
    session_id: str
    position: str
    pages: Mapping[str, str] = field(default_factory=dict)
    """The token of the second page of a list, by RPC."""

    @property
    def trace_id(self) -> str:
        return self.trace.to_bytes(16, "big").hex()


PROMPT, DATASET, ITEM, RUN, SECOND_RUN, SCORE, CONFIG = "greet", "questions", "a", "run-1", "run-2", "s-1", "config-1"
COMMAND = "0193a5a0-0000-7000-8000-00000000c0de"
TOOK: dict[str, Any] = {"input_json": f'"{CANARY}"', "expected_output_json": f'"{CANARY}"', "author": CANARY}
_Requests = Callable[[Owned], Sequence[Any]]


async def own(stack: Stack, project_id: str) -> Owned:
    """Let "acme" have two of everything, with a canary in each."""
    trace = 0x7E4A
    attributes: dict[str, Value] = {
        "session.id": "session-1", "user.id": CANARY, "lodestream.input": CANARY, "gen_ai.request.model": "gpt-4o",
        "langfuse.observation.prompt.name": PROMPT, "langfuse.observation.prompt.version": 1,
    }  # fmt: skip
    await stack.export(span(trace, 1, name=CANARY, attributes=attributes), span(trace, 2, name=CANARY, parent=1))
    await stack.export(span(trace + 1, 1, name=CANARY, attributes=attributes))
    await stack.export(span(trace + 2, 1, name=CANARY, attributes={**attributes, "session.id": "session-2"}))
    for text in (f"{CANARY} one", f"{CANARY} two"):
        created = PromptVersionCreated(prompt_name=PROMPT, text=text, author=CANARY, labels=["production"])
        await stack.ask(stack.prompts.CreatePrompt, prompts.CreatePromptRequest(prompt=created))
    second = PromptVersionCreated(prompt_name="second", text=CANARY, tags=[CANARY])
    await stack.ask(stack.prompts.CreatePrompt, prompts.CreatePromptRequest(prompt=second, command_id=COMMAND))
    defined = config(CONFIG, description=CANARY)
    await stack.ask(stack.scores.DefineScoreConfig, scores.DefineScoreConfigRequest(config=defined))
    await stack.record(
        Event(score_recorded=score(SCORE, 0.5, target=_target(trace), comment=CANARY, config_id=CONFIG)),
        Event(score_recorded=score("s-2", 0.7, target=_target(trace), comment=CANARY)),
    )
    for name in (DATASET, "second"):
        dataset = DatasetCreated(name=name, description=CANARY, author=CANARY)
        await stack.ask(stack.datasets.CreateDataset, datasets.CreateDatasetRequest(dataset=dataset))
    items = [DatasetItemRecorded(item_id=item_id, **TOOK) for item_id in (ITEM, "b")]
    await stack.ask(stack.datasets.RecordItems, datasets.RecordItemsRequest(dataset_name=DATASET, items=items))
    for run_id in (RUN, SECOND_RUN):
        await stack.ask(stack.experiments.StartExperiment, _start(run_id, description=CANARY))
        finished = [result(run_id, item_id, output_json=f'"{CANARY}"') for item_id in (ITEM, "b")]
        recorded = await stack.record(*told(*finished))
    owned = Owned(project_id, trace, "session-1", recorded.position)
    await until(lambda: _is_readable(stack, owned), what="all that acme wrote")
    return Owned(project_id, trace, "session-1", recorded.position, await _second_pages(stack, owned))


async def _is_readable(stack: Stack, owned: Owned) -> bool:
    """Whether the reads of all projections show the last of what was written."""
    traces = await stack.ask(stack.query.ListTraces, query.ListTracesRequest())
    listed = await stack.ask(stack.scores.ListScores, scores.ListScoresRequest())
    wait = waiting(owned.position)
    run = await stack.ask(stack.experiments.GetExperiment, experiments.GetExperimentRequest(run_id=RUN, wait_for=wait))
    return (len(traces.traces), len(listed.scores), run.run.items_finished) == (3, 2, 2)


async def _second_pages(stack: Stack, owned: Owned) -> dict[str, str]:
    pages = {}
    for path, method in rpcs().items():
        if "page_token" in method.input_type.fields_by_name:
            request: Any = REQUESTS[method.name](owned)[0]
            request.page_size = 1
            pages[method.name] = (await call(stack.channel, method, request, stack.metadata())).next_page_token
            assert pages[method.name], f"{path} has no second page"
    return pages


def _start(run_id: str, **fields: Any) -> experiments.StartExperimentRequest:
    asked = ExperimentRequested(run_id=run_id, name=run_id, task_json='{"kind": "sdk"}', **fields)
    return experiments.StartExperimentRequest(experiment=asked, dataset=datasets.DatasetSelector(name=DATASET))


def _target(trace: int) -> ScoreTarget:
    return ScoreTarget(trace_id=trace.to_bytes(16, "big"))


def _pages(kind: type[Message], rpc: str, **fields: Any) -> _Requests:
    """A list: its first page; after "acme" was asked, also the second, by the owner's token."""

    def requests(owned: Owned) -> Sequence[Message]:
        first = [kind(**fields)]
        return [*first, kind(**fields, page_size=1, page_token=owned.pages[rpc])] if owned.pages else first

    return requests


def _events(owned: Owned) -> list[Event]:
    """Events about what is another project's, which they also name as theirs."""
    target = _target(owned.trace)
    events = [
        Event(score_recorded=score(SCORE, 0.1, target=target, config_id=CONFIG)),
        Event(score_recorded=score("of-the-run", 0.1, target=ScoreTarget(run_id=RUN))),
        Event(score_retracted=retraction(SCORE, target=target)),
        *told(result(RUN, ITEM, output_json='"mine"', evaluations=[evaluation()]), ExperimentFinished(run_id=RUN)),
    ]
    for event in events:
        event.project_id = owned.project_id
    return events


_TRACES = query.TraceFilter(session_ids=["session-1", "session-2"])
_SCORES = scores.ScoreFilter(names=["quality"])
_SELECTED = prompts.PromptSelector(name=PROMPT)
REQUESTS: Mapping[str, _Requests] = {
    # QueryService
    "GetTrace": lambda its: [
        *_pages(query.GetTraceRequest, "GetTrace", trace_id=its.trace_id, with_content=True)(its),
        query.GetTraceRequest(trace_id=its.trace_id, wait_for=query.WaitFor(position=its.position)),
    ],
    "GetTraceOverview": lambda its: [
        query.GetTraceOverviewRequest(trace_id=its.trace_id),
        query.GetTraceOverviewRequest(trace_id=its.trace_id, span_id=f"{1:016x}"),
    ],
    "ListTraces": _pages(query.ListTracesRequest, "ListTraces", filter=_TRACES),
    "ListSessions": _pages(query.ListSessionsRequest, "ListSessions", user_ids=[CANARY]),
    "GetSession": _pages(query.GetSessionRequest, "GetSession", session_id="session-1"),
    "TailTraces": lambda _: [query.TailTracesRequest()],
    "GetStatus": lambda _: [query.GetStatusRequest()],
    # ScoreService
    "DefineScoreConfig": lambda _: [scores.DefineScoreConfigRequest(config=config(CONFIG, archived=True))],
    "ListScoreConfigs": lambda _: [scores.ListScoreConfigsRequest(with_archived=True)],
    "ListScores": _pages(scores.ListScoresRequest, "ListScores", filter=_SCORES),
    "GetScoreHistory": lambda _: [scores.GetScoreHistoryRequest(score_id=SCORE)],
    "AggregateScores": lambda its: [
        scores.AggregateScoresRequest(filter=scores.ScoreFilter(trace_ids=[its.trace_id]), grouping=grouping)
        for grouping in (scores.SCORE_GROUPING_DAY, scores.SCORE_GROUPING_RELEASE, scores.SCORE_GROUPING_PROMPT_VERSION)
    ],
    # PromptService
    "CreatePrompt": lambda _: [
        prompts.CreatePromptRequest(prompt=PromptVersionCreated(prompt_name=PROMPT, text="mine"), command_id=COMMAND)
    ],
    "MoveLabels": lambda _: [
        prompts.MoveLabelsRequest(move=PromptLabelsMoved(prompt_name=PROMPT, version=2, labels=["production"]))
    ],
    "RollBackLabel": lambda _: [
        prompts.RollBackLabelRequest(roll_back=PromptLabelRolledBack(prompt_name=PROMPT, label="production"))
    ],
    "ArchivePrompt": lambda _: [prompts.ArchivePromptRequest(archive=PromptArchived(prompt_name=PROMPT))],
    "GetPrompt": lambda _: [
        prompts.GetPromptRequest(prompt=_SELECTED),
        prompts.GetPromptRequest(prompt=prompts.PromptSelector(name=PROMPT, version=1)),
    ],
    "GetPrompts": lambda _: [prompts.GetPromptsRequest(prompts=[_SELECTED])],
    "WatchPrompts": lambda _: [prompts.WatchPromptsRequest(prompts=[prompts.WatchedPrompt(prompt=_SELECTED)])],
    "ListPrompts": _pages(prompts.ListPromptsRequest, "ListPrompts", with_archived=True),
    "ListVersions": _pages(prompts.ListVersionsRequest, "ListVersions", name=PROMPT),
    "LabelHistory": _pages(prompts.LabelHistoryRequest, "LabelHistory", name=PROMPT),
    "PromptMetrics": lambda _: [prompts.PromptMetricsRequest(name=PROMPT)],
    "GetVerdict": lambda _: [prompts.GetVerdictRequest(command_id=COMMAND, prompt_name="second")],
    "GetPromptHeads": lambda _: [cache.GetPromptHeadsRequest(names=[PROMPT])],
    # DatasetService
    "CreateDataset": lambda _: [
        datasets.CreateDatasetRequest(dataset=DatasetCreated(name="second", description="mine"))
    ],
    "ArchiveDataset": lambda _: [datasets.ArchiveDatasetRequest(name=DATASET)],
    "RecordItems": lambda _: [
        datasets.RecordItemsRequest(dataset_name=name, items=[DatasetItemRecorded(item_id=ITEM, input_json='"mine"')])
        for name in (DATASET, "second")
    ],
    "ArchiveItems": lambda _: [datasets.ArchiveItemsRequest(dataset_name=DATASET, item_ids=[ITEM])],
    "GetDataset": lambda _: [datasets.GetDatasetRequest(dataset=datasets.DatasetSelector(name=DATASET))],
    "ListDatasets": _pages(datasets.ListDatasetsRequest, "ListDatasets", with_archived=True),
    "ListItems": _pages(datasets.ListItemsRequest, "ListItems", dataset=datasets.DatasetSelector(name=DATASET)),
    "DatasetHistory": _pages(datasets.DatasetHistoryRequest, "DatasetHistory", name=DATASET),
    # ExperimentService
    "StartExperiment": lambda _: [_start(RUN), _start("new")],
    "PauseExperiment": lambda _: [experiments.PauseExperimentRequest(run_id=RUN)],
    "ResumeExperiment": lambda _: [experiments.ResumeExperimentRequest(run_id=RUN)],
    "CancelExperiment": lambda _: [experiments.CancelExperimentRequest(run_id=RUN)],
    "WatchExperiment": lambda _: [experiments.WatchExperimentRequest(run_id=RUN, with_items=True)],
    "GetExperiment": lambda _: [experiments.GetExperimentRequest(run_id=RUN)],
    "ListExperiments": _pages(experiments.ListExperimentsRequest, "ListExperiments", dataset_name=DATASET),
    "ListExperimentItems": _pages(
        experiments.ListExperimentItemsRequest, "ListExperimentItems", run_id=RUN, with_dataset_items=True
    ),
    "CompareExperiments": lambda _: [
        experiments.CompareExperimentsRequest(baseline_run_id=RUN, run_ids=[SECOND_RUN], seed=1)
    ],
    # IngestService, and OTLP's TraceService
    "Record": lambda its: [RecordRequest(events=_events(its))],
    "Stream": lambda its: [StreamRequest(record=RecordRequest(events=_events(its)))],
    "Export": lambda its: [request_of(span(its.trace, 3, name="mine"), span(its.trace, 1, name="mine"))],
}
