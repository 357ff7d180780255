"""Datasets and runs for tests: events, the records they are in, and the projection on a real Postgres without Kafka."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import sha256
from typing import Any

from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import (
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

from services.projections.experiments.experiments import ExperimentsProjection
from shared.event_log.assignment import Assignment
from shared.event_log.codec import LogRecord, read
from shared.event_log.topics import EXPERIMENTS
from shared.projection.projector import Projector
from shared.storage.postgres import connect_pool
from tests.support.projecting import Projecting
from tests.support.records import NOON

EXPERIMENTS_PROJECTION = "services.projections.experiments"
DATASET_TABLES = ("datasets", "dataset_descriptions", "dataset_items", "dataset_changes")
RUN_TABLES = ("experiment_runs", "experiment_items", "experiment_evaluations")
EXPERIMENT_TABLES = (*DATASET_TABLES, *RUN_TABLES, "experiment_events")


def dataset_id(name: str) -> str:
    """Of the dataset with this name."""
    return sha256(name.encode()).hexdigest()[:32]


def identity(number: int) -> str:
    """An event's id."""
    return str(uuid.UUID(int=number, version=4))


def created(name: str = "questions", **fields: Any) -> Event:
    return _event(dataset_created=DatasetCreated(**{"dataset_id": dataset_id(name), "name": name, **fields}))


def item(item_id: str = "a", input_json: str = '"?"', *, of: str = "questions", **fields: Any) -> Event:
    payload = DatasetItemRecorded(dataset_id=dataset_id(of), item_id=item_id, input_json=input_json, **fields)
    return _event(dataset_item_recorded=payload)


def item_archived(item_id: str = "a", *, of: str = "questions", **fields: Any) -> Event:
    return _event(dataset_item_archived=DatasetItemArchived(dataset_id=dataset_id(of), item_id=item_id, **fields))


def archived(name: str = "questions", **fields: Any) -> Event:
    return _event(dataset_archived=DatasetArchived(dataset_id=dataset_id(name), **fields))


def requested(run_id: str = "r", **fields: Any) -> Event:
    """A run of the dataset "questions" unless another one is said."""
    told = {"name": f"run {run_id}", "dataset_id": dataset_id("questions"), "dataset_version": 1, **fields}
    payload = ExperimentRequested(run_id=run_id, task_json='{"kind": "sdk"}', repetitions=2, max_concurrency=4, **told)
    return _event(experiment_requested=payload)


def result(
    item_id: str = "a", run_id: str = "r", *, repetition: int = 0, took: timedelta = timedelta(0), **fields: Any
) -> Event:
    payload = ExperimentItemFinished(run_id=run_id, item_id=item_id, repetition=repetition, **fields)
    payload.started_at.FromDatetime(NOON)
    payload.ended_at.FromDatetime(NOON + took)
    return _event(experiment_item_finished=payload)


def finished(run_id: str = "r", **fields: Any) -> Event:
    return _event(experiment_finished=ExperimentFinished(run_id=run_id, **fields))


def cancelled(run_id: str = "r", reason: str = "") -> Event:
    return _event(experiment_cancelled=ExperimentCancelled(run_id=run_id, reason=reason))


def paused(run_id: str = "r") -> Event:
    return _event(experiment_paused=ExperimentPaused(run_id=run_id))


def resumed(run_id: str = "r") -> Event:
    return _event(experiment_resumed=ExperimentResumed(run_id=run_id))


def usage(input_tokens: int = 0, output_tokens: int = 0, cost_picodollars: int | None = None) -> ExperimentUsage:
    return ExperimentUsage(input_tokens=input_tokens, output_tokens=output_tokens, cost_picodollars=cost_picodollars)


def said(name: str, value: float | bool | str) -> ItemEvaluation:
    """An evaluation that is a number, a boolean or a category."""
    if isinstance(value, bool):
        return ItemEvaluation(name=name, boolean=value)
    return (
        ItemEvaluation(name=name, categorical=value)
        if isinstance(value, str)
        else ItemEvaluation(name=name, numeric=value)
    )


def again(event: Event, event_id: str) -> Event:
    """The event with this id."""
    copy = Event()
    copy.CopyFrom(event)
    copy.event_id = event_id
    return copy


def record(
    event: Event | bytes, offset: int = 0, *, project: str = "p", partition: int = 0, after_ms: int | None = None
) -> LogRecord:
    """A record as the consumer meets it; by default each is appended a second after the one before."""
    if isinstance(event, Event):
        event = again(event, event.event_id)
        event.project_id = project
        event = event.SerializeToString()
    appended_ms = int(NOON.timestamp() * 1000) + (1000 * offset if after_ms is None else after_ms)
    return read(EXPERIMENTS, partition, offset, appended_ms, event)


def records(*events: Event | bytes, first: int = 0, **options: Any) -> list[LogRecord]:
    """Records in a row."""
    return [record(event, offset, **options) for offset, event in enumerate(events, first)]


@asynccontextmanager
async def folding_experiments(dsn: str) -> AsyncIterator[Projecting]:
    """A projector of datasets and runs on this database."""
    pool = await connect_pool(dsn, application="test", search_path="experiments, lodestream", max_size=8)
    try:
        yield Projecting(Projector(pool, ExperimentsProjection(), Assignment()), pool)
    finally:
        await pool.close()


async def empty_experiments(projection: Projecting) -> None:
    """Start again from nothing."""
    await projection.pool.execute(f"TRUNCATE {', '.join(EXPERIMENT_TABLES)}, projection_positions, dead_letters")


async def rows(projection: Projecting, query: str, *arguments: object) -> Sequence[tuple[Any, ...]]:
    return [tuple(row) for row in await projection.pool.fetch(query, *arguments)]


def _event(**payload: Any) -> Event:
    return Event(event_id=str(uuid.uuid4()), project_id="p", **payload)
