"""Datasets of two projects under the same names, runs of programs over them, and runs that workers carry out."""

import asyncio
import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1 import datasets_pb2 as datasets_pb
from lodestream_proto.v1 import experiments_pb2 as experiments_pb
from lodestream_proto.v1 import prompts_pb2 as prompts_pb
from lodestream_proto.v1.datasets_pb2_grpc import DatasetServiceStub
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import (
    EXPERIMENT_OUTCOME_COMPLETED,
    EXPERIMENT_OUTCOME_FAILED,
    DatasetArchived,
    DatasetCreated,
    DatasetItemArchived,
    DatasetItemRecorded,
    ExperimentCancelled,
    ExperimentFinished,
    ExperimentItemFinished,
    ExperimentPaused,
    ExperimentRequested,
    ExperimentResumed,
    ExperimentUsage,
    ItemEvaluation,
)
from lodestream_proto.v1.experiments_pb2_grpc import ExperimentServiceStub
from lodestream_proto.v1.prompt_event_pb2 import ChatMessage, ChatPrompt, ChatPromptItem, PromptVersionCreated
from lodestream_proto.v1.prompts_pb2_grpc import PromptServiceStub

from tests.torture import prompts_way
from tests.torture.contract import EXPERIMENTS, content_of
from tests.torture.driver import Operation, Tenant, random_uuid, send
from tests.torture.ledger import Claim, Ledger
from tests.torture.ways import Answer, ask, record_events

DATASETS = ("questions", "gold 🌈", "hard")
PROMPT = "answer"
"""Of the runs that workers carry out."""
_ITEMS, _MOST_ITEMS, _RUNS = 25, 8, 3
_LAST_TRIES = 15  # seconds
_REFUSED = {"NOT_FOUND", "FAILED_PRECONDITION", "ALREADY_EXISTS"}
"""Answered before anything is appended."""
_EVALUATORS = '[{"kind": "contains", "name": "says-days", "value": "days"}, {"kind": "length", "name": "long"}]'


def dataset_id_of(name: str) -> str:
    """As the contract has it."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


class ExperimentStory:
    """Payloads about few datasets and runs, most of which change something that is there."""

    def __init__(self, rng: random.Random) -> None:
        self.random = rng
        """Whoever tells the story may draw from it, too."""

    def dataset(self, project: str, name: str) -> DatasetCreated:
        """A description; some are said twice, in other words."""
        rng = self.random
        schema = '{"type": "object"}' if rng.random() < 0.5 else '{ "type":"object" }'
        return DatasetCreated(
            dataset_id=dataset_id_of(name),
            name=name,
            description=f"{project} asks {rng.randrange(3)}",
            metadata_json=rng.choice(("", '{"a": 1, "b": [null, "ß"]}', '{"b":[null,"ß"],"a":1}')),
            input_schema_json=rng.choice(("", schema)),
            author=self.author(project),
        )

    def items(self, project: str, name: str) -> list[DatasetItemRecorded]:
        """Items, each once; about half of them say what holds already."""
        rng = self.random
        ids = rng.sample(range(_ITEMS), rng.randint(1, _MOST_ITEMS))
        return [self._item(project, name, f"item-{number}") for number in ids]

    def _item(self, project: str, name: str, item_id: str) -> DatasetItemRecorded:
        rng = self.random
        question = {"question": f"How many days? ({item_id})", "project": project, "n": rng.randrange(2)}
        spaces = rng.choice(((",", ":"), (", ", ": ")))
        splits = rng.choice(([], ["test"], ["hard", "test"]))
        source = {"source_trace_id": b"t" * 16, "source_span_id": b"s" * 8} if rng.random() < 0.2 else {}
        return DatasetItemRecorded(
            dataset_id=dataset_id_of(name), item_id=item_id, input_json=json.dumps(question, separators=spaces),
            expected_output_json=rng.choice(("", '"14 days"')), metadata_json=rng.choice(("", '{"easy": true}')),
            splits=splits, author=self.author(project), **source,
        )  # fmt: skip

    def result(self, project: str, run_id: str) -> ExperimentItemFinished:
        """What a program says came of an item."""
        rng = self.random
        start = 1_780_000_000 + rng.randrange(10**6)
        usage = ExperimentUsage(input_tokens=rng.randrange(1_000), output_tokens=rng.randrange(100))
        if rng.random() < 0.5:
            usage.cost_picodollars = rng.randrange(10**9)
        evaluations = [
            ItemEvaluation(name="exact", boolean=rng.random() < 0.5),
            ItemEvaluation(name="distance", numeric=rng.uniform(0, 1), comment="β", evaluator_version="v1"),
            ItemEvaluation(name="tone", categorical=rng.choice(("kind", "näh"))),
            ItemEvaluation(name="broken", error="it fell over"),
            ItemEvaluation(name="words", text="in words", metadata_json='{"a": [1]}'),
        ]
        return ExperimentItemFinished(
            run_id=run_id,
            item_id=f"item-{rng.randrange(_ITEMS)}",
            repetition=rng.randrange(2),
            trace_id=rng.randbytes(16),
            output_json=json.dumps(f"{project} answers {rng.randrange(10**6)}"),
            error=rng.choice(("", "", "", "it broke")),
            started_at=Timestamp(seconds=start, nanos=rng.randrange(10**9)),
            ended_at=Timestamp(seconds=start + 1 + rng.randrange(30), nanos=rng.randrange(10**9)),
            usage=usage,
            evaluations=rng.sample(evaluations, rng.randint(0, len(evaluations))),
            attempts=1,
        )

    def end(self, project: str, run_id: str) -> ExperimentFinished:
        """How a program says its run ended."""
        rng = self.random
        outcome = rng.choice((EXPERIMENT_OUTCOME_COMPLETED, EXPERIMENT_OUTCOME_FAILED))
        evaluations = [ItemEvaluation(name="pass rate", numeric=rng.uniform(0, 1))]
        return ExperimentFinished(
            run_id=run_id, outcome=outcome, reason=f"{project} says so {rng.randrange(10**6)}", evaluations=evaluations
        )

    def author(self, project: str) -> str:
        """Another one each time, so that each event says something of its own."""
        return f"{project} {self.random.randrange(10**9)}"


@dataclass(slots=True)
class _Project:
    """What a writer knows of a project."""

    datasets: set[str] = field(default_factory=set)
    has_items: set[str] = field(default_factory=set)
    has_prompt: bool = False
    started: list[tuple[str, bool]] = field(default_factory=list)
    """Runs by id, and whether workers carry them out."""
    paused: set[str] = field(default_factory=set)
    asked: list[experiments_pb.StartExperimentRequest] = field(default_factory=list)


class ExperimentsWriter:
    """Requests about datasets and runs of one of the projects."""

    def __init__(
        self, channel: grpc.aio.Channel, tenants: Sequence[Tenant], rng: random.Random, ledger: Ledger
    ) -> None:
        self._channel, self._tenants, self._ledger, self._story = channel, tenants, ledger, ExperimentStory(rng)
        self._datasets: Any = DatasetServiceStub(channel)
        self._experiments: Any = ExperimentServiceStub(channel)
        self._prompts: Any = PromptServiceStub(channel)
        self._known: Mapping[str, _Project] = defaultdict(_Project)
        self._life = f"{rng.randrange(16**6):06x}"
        self._begun = 0

    def next(self) -> Operation | None:
        """What the project needs to have a run at all; then a bit of everything."""
        rng = self._story.random
        tenant = rng.choice(self._tenants)
        known, name = self._known[tenant.project], rng.choice(DATASETS)
        if name not in known.datasets:
            return self._create(tenant, name)
        if name not in known.has_items:
            return self._record(tenant, name)
        if not known.has_prompt:
            return self._make_prompt(tenant)
        chance = rng.random()
        if chance < 0.3:
            return self._record(tenant, name)
        if chance < 0.4:
            return rng.choice((self._create, self._archive_items))(tenant, name)
        if chance < 0.43:
            return self._list(tenant, name)
        if chance < 0.44:
            return self._archive(tenant, name)
        if chance < 0.55 or not known.started:
            return self._start(tenant, name)
        if chance < 0.65:
            return self._move(tenant)
        return self._tell(tenant)

    async def finish(self) -> None:
        """No run of workers may be left paused, be it by an earlier life: it would never come to its end."""
        ended = asyncio.Event()
        ended.set()
        for tenant in self._tenants:
            for run_id in await self._paused(tenant):
                await send(self._resume(tenant, run_id), self._ledger, ended)

    async def _paused(self, tenant: Tenant) -> list[str]:
        request = experiments_pb.ListExperimentsRequest(
            states=[experiments_pb.EXPERIMENT_STATE_PAUSED], page_size=1_000
        )
        for _ in range(_LAST_TRIES):
            answer = await ask(self._experiments.ListExperiments, request, tenant.secret)
            if answer.verdict == "acked":
                return [run.request.run_id for run in answer.response.runs]
            await asyncio.sleep(1)
        raise TimeoutError(f"runs can't be listed: {answer.code} {answer.details}")

    def _create(self, tenant: Tenant, name: str) -> Operation:
        created = self._story.dataset(tenant.project, name)
        request = datasets_pb.CreateDatasetRequest(dataset=created)
        known = self._known[tenant.project].datasets
        return self._operation(
            tenant, self._datasets.CreateDataset, request, [claim_of(created)], lambda _: known.add(name)
        )

    def _archive(self, tenant: Tenant, name: str) -> Operation:
        archived = DatasetArchived(dataset_id=dataset_id_of(name), author=self._story.author(tenant.project))
        request = datasets_pb.ArchiveDatasetRequest(name=name, author=archived.author)
        known = self._known[tenant.project].datasets
        return self._operation(
            tenant, self._datasets.ArchiveDataset, request, [claim_of(archived)], lambda _: known.discard(name)
        )

    def _record(self, tenant: Tenant, name: str) -> Operation:
        items = self._story.items(tenant.project, name)
        claims = [claim_of(item) for item in items]
        if self._story.random.random() < 0.2:
            broken = DatasetItemRecorded(item_id="broken", input_json='{"torn": ', author=items[0].author)
            items.append(broken)
            claims.append(claim_of(broken, valid=False))
        request = datasets_pb.RecordItemsRequest(dataset_name=name, items=items)
        known = self._known[tenant.project].has_items
        return self._operation(
            tenant, self._datasets.RecordItems, request, claims, lambda _: known.add(name), rejected=_refused_items
        )

    def _archive_items(self, tenant: Tenant, name: str) -> Operation:
        rng, author = self._story.random, self._story.author(tenant.project)
        ids = [f"item-{number}" for number in rng.sample(range(_ITEMS), 2)]
        request = datasets_pb.ArchiveItemsRequest(dataset_name=name, item_ids=ids, author=author)
        claims = [
            claim_of(DatasetItemArchived(dataset_id=dataset_id_of(name), item_id=item_id, author=author))
            for item_id in ids
        ]
        return self._operation(tenant, self._datasets.ArchiveItems, request, claims)

    def _list(self, tenant: Tenant, name: str) -> Operation:
        """A page of items must be the tenant's own."""
        request = datasets_pb.ListItemsRequest(dataset=datasets_pb.DatasetSelector(name=name), page_size=100)

        async def attempt(secret: str) -> Answer:
            answer = await ask(self._datasets.ListItems, request, secret)
            for item in answer.response.items if answer.verdict == "acked" else ():
                if json.loads(item.input_json)["project"] != tenant.project:
                    self._ledger.object("a project read what is another's", f"{tenant.project}: {item}")
            return Answer("acked", code=answer.code, details=answer.details)  # a read is not tried again

        return Operation(tenant, [], attempt)

    def _make_prompt(self, tenant: Tenant) -> Operation:
        """Of the runs that workers carry out."""
        system = ChatMessage(role="system", content="It takes 14 days. It costs nothing.")
        user = ChatMessage(role="user", content="{{question}}")
        chat = ChatPrompt(items=[ChatPromptItem(message=system), ChatPromptItem(message=user)])
        created = PromptVersionCreated(prompt_name=PROMPT, chat=chat, author=self._story.author(tenant.project))
        event = Event(event_id=random_uuid(self._story.random), prompt_version_created=created)
        request = prompts_pb.CreatePromptRequest(command_id=event.event_id, prompt=created)
        known = self._known[tenant.project]

        def made(_: Answer) -> None:
            known.has_prompt = True

        return self._operation(tenant, self._prompts.CreatePrompt, request, [prompts_way.claim_of(event)], made)

    def _start(self, tenant: Tenant, name: str) -> Operation:
        """A run of workers or of this program; sometimes one that was asked for before."""
        rng, known = self._story.random, self._known[tenant.project]
        if known.asked and rng.random() < 0.15:
            request = rng.choice(known.asked)
        else:
            self._begun += 1
            run_id = f"run-{self._life}-{self._begun}"  # the same in both projects, where they come to it
            of_workers = rng.random() < 0.5
            task: dict[str, Any] = {"kind": "sdk"}
            if of_workers:
                task = {
                    "kind": "prompt", "prompt": {"name": PROMPT, "version": 1}, "provider": "mock",
                    "model": "mock-large", "settings": {"latency_seconds": round(rng.uniform(0, 0.3), 2)},
                }  # fmt: skip
            asked = ExperimentRequested(
                run_id=run_id, name=run_id, task_json=json.dumps(task), repetitions=rng.randint(1, 2),
                max_concurrency=4, description=self._story.author(tenant.project),
                evaluators_json=_EVALUATORS if of_workers else "",
            )  # fmt: skip
            selector = datasets_pb.DatasetSelector(name=name)
            request = experiments_pb.StartExperimentRequest(experiment=asked, dataset=selector)
            known.asked.append(request)
        asked = request.experiment
        partial = {
            name: value
            for name, value in content_of("experiment_requested", asked.SerializeToString()).items()
            if name != "task_json"
        }
        partial["dataset_id"] = dataset_id_of(request.dataset.name)
        claim = Claim(EXPERIMENTS, "experiment_requested", "", partial, partial=True)
        entry = asked.run_id, '"prompt"' in asked.task_json

        def started(_: Answer) -> None:
            if entry not in known.started:
                known.started.append(entry)

        return self._operation(tenant, self._experiments.StartExperiment, request, [claim], started)

    def _move(self, tenant: Tenant) -> Operation:
        """Pause, resume or cancel one of the last runs."""
        rng, known = self._story.random, self._known[tenant.project]
        run_id, _ = rng.choice(known.started[-_RUNS:])
        author = self._story.author(tenant.project)
        if run_id in known.paused:
            return self._resume(tenant, run_id)
        if rng.random() < 0.7:
            known.paused.add(run_id)  # whether it is or not: nobody may be told
            request = experiments_pb.PauseExperimentRequest(run_id=run_id, author=author)
            claim = claim_of(ExperimentPaused(run_id=run_id, author=author))
            return self._operation(tenant, self._experiments.PauseExperiment, request, [claim])
        cancelled = ExperimentCancelled(run_id=run_id, reason=f"{author} has enough", author=author)
        cancel = experiments_pb.CancelExperimentRequest(run_id=run_id, reason=cancelled.reason, author=author)
        return self._operation(tenant, self._experiments.CancelExperiment, cancel, [claim_of(cancelled)])

    def _resume(self, tenant: Tenant, run_id: str) -> Operation:
        known, author = self._known[tenant.project].paused, self._story.author(tenant.project)
        request = experiments_pb.ResumeExperimentRequest(run_id=run_id, author=author)
        claim = claim_of(ExperimentResumed(run_id=run_id, author=author))
        return self._operation(
            tenant, self._experiments.ResumeExperiment, request, [claim], lambda _: known.discard(run_id)
        )

    def _tell(self, tenant: Tenant) -> Operation | None:
        """What came of items of a program's run, some of them for the second time, and at times the run's end."""
        rng, known = self._story.random, self._known[tenant.project]
        own = [run_id for run_id, of_workers in known.started if not of_workers]
        if not own:
            return None
        run_id = rng.choice(own[-_RUNS:])
        events = [
            Event(event_id=random_uuid(rng), experiment_item_finished=self._story.result(tenant.project, run_id))
            for _ in range(rng.randint(1, 4))
        ]
        if rng.random() < 0.1:
            end = self._story.end(tenant.project, run_id)
            events.append(Event(event_id=random_uuid(rng), experiment_finished=end))
        if rng.random() < 0.1:
            nobody_s = self._story.result(tenant.project, "nobody's run")
            events.append(Event(event_id=random_uuid(rng), experiment_item_finished=nobody_s))
        claims = [
            claim_of(payload, event_id=event.event_id, valid=payload.run_id != "nobody's run")
            for event in events
            for payload in [getattr(event, str(event.WhichOneof("payload")))]
        ]
        return Operation(tenant, claims, lambda secret: record_events(self._channel, events, secret))

    def _operation(
        self, tenant: Tenant, method: Any, request: Message, claims: Sequence[Claim], then: Any = None,
        *, rejected: Any = None,
    ) -> Operation:  # fmt: skip
        async def attempt(secret: str) -> Answer:
            answer = await ask(method, request, secret)
            if answer.code in _REFUSED:
                return Answer("refused", code=answer.code, details=answer.details)
            if answer.verdict == "acked" and rejected:
                count = rejected(answer.response)
                return Answer("acked", answer.position, rejected=count, response=answer.response)
            return answer

        return Operation(tenant, claims, attempt, then)


def claim_of(payload: Message, *, event_id: str = "", valid: bool = True) -> Claim:
    """What an event about a dataset or a run claims, as the gateway writes it."""
    kind = _KINDS[type(payload)]
    content = content_of(kind, payload.SerializeToString())
    if "splits" in content:
        content["splits"] = sorted(set(content["splits"]))
    return Claim(EXPERIMENTS, kind, event_id, content, valid)


def _refused_items(response: datasets_pb.RecordItemsResponse) -> int:
    return sum(bool(outcome.field) for outcome in response.outcomes)


_KINDS: Mapping[type[Message], str] = {
    DatasetCreated: "dataset_created",
    DatasetItemRecorded: "dataset_item_recorded",
    DatasetItemArchived: "dataset_item_archived",
    DatasetArchived: "dataset_archived",
    ExperimentRequested: "experiment_requested",
    ExperimentItemFinished: "experiment_item_finished",
    ExperimentFinished: "experiment_finished",
    ExperimentCancelled: "experiment_cancelled",
    ExperimentPaused: "experiment_paused",
    ExperimentResumed: "experiment_resumed",
}
