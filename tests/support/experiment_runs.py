"""Experiments for tests of the evaluator: what they run over, how they are asked for, and what came of them."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import asyncpg
from aiokafka import AIOKafkaProducer, TopicPartition
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import (
    ExperimentBudget,
    ExperimentCancelled,
    ExperimentFinished,
    ExperimentItemFinished,
    ExperimentPaused,
    ExperimentRequested,
    ExperimentResumed,
)
from lodestream_proto.v1.prompt_event_pb2 import ChatMessage, ChatPrompt, ChatPromptItem
from lodestream_proto.v1.prompts_pb2 import PromptVersion
from lodestream_proto.v1.score_event_pb2 import ScoreRecorded

from shared.event_log.topics import EXPERIMENTS, SCORES, TRACES
from shared.rules.experiment_ids import dataset_id_of
from tests.support.log_access import consumer_of, ends
from tests.support.polling import until
from tests.support.records import NOON

CONTAINS = {"kind": "contains", "name": "says-days", "value": "days"}
LENGTH = {"kind": "length", "name": "long"}
DATASET = dataset_id_of("questions")
KNOWN = "It takes 14 days. It costs nothing."
"""What the prompt of the tests says first, and the mock provider quotes."""
Place = tuple[str, int]
"""An item's id and a repetition."""


def requested(
    run_id: str, *, project: str, provider: str = "mock", settings: Mapping[str, Any] | None = None,
    evaluators: Sequence[Mapping[str, Any]] = (CONTAINS, LENGTH), run_evaluators: Sequence[Mapping[str, Any]] = (),
    max_cost_usd: float = 0, max_seconds: float = 0, prompt_version: int = 1, **fields: Any,
) -> Event:  # fmt: skip
    """A run over the dataset "questions" at version 1."""
    task = {
        "kind": "prompt", "prompt": {"name": "answer", "version": prompt_version},
        "provider": provider, "model": "mock-large",
        "settings": settings or ({"latency_seconds": 0} if provider == "mock" else {}),
    }  # fmt: skip
    defaults: dict[str, Any] = {
        "name": run_id, "dataset_id": DATASET, "dataset_version": 1, "repetitions": 1, "max_concurrency": 8,
        "task_json": json.dumps(task), "evaluators_json": json.dumps(list(evaluators)),
        "run_evaluators_json": json.dumps(list(run_evaluators)),
        "budget": ExperimentBudget(max_cost_usd=max_cost_usd, max_seconds=max_seconds),
    }  # fmt: skip
    return _event(project, experiment_requested=ExperimentRequested(run_id=run_id, **(defaults | fields)))


def cancelled(run_id: str, *, project: str) -> Event:
    return _event(project, experiment_cancelled=ExperimentCancelled(run_id=run_id, reason="enough"))


def paused(run_id: str, *, project: str) -> Event:
    return _event(project, experiment_paused=ExperimentPaused(run_id=run_id))


def resumed(run_id: str, *, project: str) -> Event:
    return _event(project, experiment_resumed=ExperimentResumed(run_id=run_id))


def item_finished(run_id: str, item_id: str, *, project: str, repetition: int = 0) -> Event:
    now = Timestamp()
    now.FromDatetime(NOON)
    its = ExperimentItemFinished(
        run_id=run_id,
        item_id=item_id,
        repetition=repetition,
        output_json='"told before"',
        started_at=now,
        ended_at=now,
    )
    return _event(project, experiment_item_finished=its)


async def append_events(kafka: str, *events: Event) -> None:
    """As the gateway does: all of a run in one partition."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, enable_idempotence=True)
    await producer.start()
    try:
        for event in events:
            run_id = getattr(event, str(event.WhichOneof("payload"))).run_id
            key = f"{event.project_id}/{run_id}".encode()
            await producer.send_and_wait(EXPERIMENTS, event.SerializeToString(), key=key)
    finally:
        await producer.stop()


async def furnish(dsn: str, project: str, items: int) -> None:
    """What the projections would have written: a dataset of so many items at version 1, and a prompt."""
    await furnish_prompt(dsn, project)
    await furnish_dataset(dsn, project, items)


async def furnish_dataset(dsn: str, project: str, items: int, *, dataset: str = DATASET) -> None:
    """Items at version 1; every fourth is in the split "hard"."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            "INSERT INTO experiments.datasets VALUES ($1, $2, $3, 1, false, $4, $5, $5)",
            project, dataset, "questions", items, NOON,
        )  # fmt: skip
        await connection.executemany(
            "INSERT INTO experiments.dataset_items (project_id, dataset_id, item_id, version, first_version, archived,"
            " input, expected_output, metadata, splits, author, created_at, changed_at)"
            " VALUES ($1, $2, $3, 1, $4, false, $5, $6, $7, $8, '', $9, $9)",
            [
                (
                    project, dataset, f"item-{n:05}", n, json.dumps({"question": f"How many days does it take? ({n})"}),
                    json.dumps("14 days"), json.dumps({"n": n}), ["hard" if n % 4 == 0 else "easy"], NOON,
                )
                for n in range(items)
            ],
        )  # fmt: skip
    finally:
        await connection.close()


async def furnish_prompt(dsn: str, project: str, *, placeholder: str = "") -> None:
    """A chat of two messages, the second of which is the question; between them messages of items, if it is named."""
    connection = await asyncpg.connect(dsn)
    try:
        chat = ChatPrompt(
            items=[
                ChatPromptItem(message=ChatMessage(role="system", content=KNOWN)),
                *([ChatPromptItem(placeholder=placeholder)] if placeholder else []),
                ChatPromptItem(message=ChatMessage(role="user", content="{{question}}")),
            ]
        )
        await connection.execute(
            "INSERT INTO prompts.prompt_versions (project_id, name, version, revision, tags, created_at, body)"
            " VALUES ($1, 'answer', 1, 1, '{}', $2, $3) ON CONFLICT DO NOTHING",
            project, NOON, PromptVersion(name="answer", version=1, chat=chat).SerializeToString(),
        )  # fmt: skip
    finally:
        await connection.close()


@dataclass(slots=True)
class PublishedEvents:
    """All that the log says of a project since a beginning: for each id, all versions of it that the log has."""

    results: dict[tuple[str, str, int], set[bytes]] = field(default_factory=lambda: defaultdict(set))
    traces: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    """By the event's id."""
    scores: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    """By the score's id."""
    endings: dict[str, list[ExperimentFinished]] = field(default_factory=lambda: defaultdict(list))

    def places(self, run_id: str) -> set[Place]:
        """Which items and repetitions have a result."""
        return {(item_id, repetition) for result_run_id, item_id, repetition in self.results if result_run_id == run_id}

    def of(self, run_id: str) -> list[ExperimentItemFinished]:
        """The results of a run."""
        return [
            Event.FromString(next(iter(versions))).experiment_item_finished
            for (result_run_id, _, _), versions in sorted(self.results.items())
            if result_run_id == run_id
        ]

    def scored(self) -> list[ScoreRecorded]:
        """The scores."""
        return [Event.FromString(next(iter(versions))).score_recorded for versions in self.scores.values()]


class Log:
    """The log from a beginning on, by its own consumer."""

    def __init__(self, kafka: str, begin: Mapping[str, Mapping[int, int]]) -> None:
        self.kafka, self._begin = kafka, begin

    async def read(self, project: str) -> PublishedEvents:
        """What it says of a project now."""
        published = PublishedEvents()
        async with consumer_of(self.kafka) as consumer:
            for topic, begin in self._begin.items():
                partitions = [TopicPartition(topic, n) for n in begin]
                consumer.assign(partitions)
                end = await consumer.end_offsets(partitions)
                for partition in partitions:
                    consumer.seek(partition, begin[partition.partition])
                waiting = {each for each in partitions if begin[each.partition] < end[each]}
                while waiting:
                    for partition, records in (await consumer.getmany(timeout_ms=200, max_records=1000)).items():
                        for record in records:
                            _take(published, project, record.value)
                        if records and records[-1].offset + 1 >= end[partition]:
                            waiting.discard(partition)
        return published


async def log_from_here(kafka: str) -> Log:
    """The log from its present ends on."""
    return Log(kafka, {topic: await ends(kafka, topic) for topic in (TRACES, SCORES, EXPERIMENTS)})


async def ended(log: Log, project: str, *run_ids: str, deadline: float = 30) -> PublishedEvents:
    """What the log says when all of these runs have ended."""

    async def all_have() -> bool:
        published = await log.read(project)
        return all(published.endings.get(run_id) for run_id in run_ids)

    await until(all_have, deadline=deadline, what=f"the end of {run_ids}")
    return await log.read(project)  # whole: topics are read one after the other


def _take(published: PublishedEvents, project: str, raw: bytes) -> None:
    event = Event.FromString(raw)
    if event.project_id != project:
        return
    match event.WhichOneof("payload"):
        case "experiment_item_finished":
            result = event.experiment_item_finished
            published.results[result.run_id, result.item_id, result.repetition].add(raw)
        case "spans_recorded":
            published.traces[event.event_id].add(raw)
        case "score_recorded":
            published.scores[event.score_recorded.score_id].add(raw)
        case "experiment_finished":
            published.endings[event.experiment_finished.run_id].append(event.experiment_finished)


def _event(project: str, **payload: Any) -> Event:
    return Event(event_id=str(uuid4()), project_id=project, **payload)
