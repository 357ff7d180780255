"""Datasets and runs for tests: payloads that can be taken, and events of them."""

import uuid
from collections.abc import Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import (
    DatasetCreated,
    DatasetItemRecorded,
    ExperimentFinished,
    ExperimentItemFinished,
    ExperimentRequested,
    ItemEvaluation,
)

from shared.rules.experiment_ids import dataset_id_of

PROMPT_TASK = (
    '{"kind": "prompt", "prompt": {"name": "answer", "version": 1}, "provider": "mock", "model": "mock-large"}'
)


def dataset(name: str = "questions", **fields: Any) -> DatasetCreated:
    """A dataset that anything goes into."""
    return DatasetCreated(**{"dataset_id": dataset_id_of(name), "name": name, **fields})


def item(item_id: str = "i", input_json: str = '{"question": "why?"}', **fields: Any) -> DatasetItemRecorded:
    """An item of the dataset "questions"."""
    return DatasetItemRecorded(
        **{"dataset_id": dataset_id_of("questions"), "item_id": item_id, "input_json": input_json, **fields}
    )


def run(run_id: str = "r", **fields: Any) -> ExperimentRequested:
    """A program's run over the first version of the dataset "questions"."""
    asked: dict[str, Any] = {
        "run_id": run_id,
        "name": "first",
        "dataset_id": dataset_id_of("questions"),
        "dataset_version": 1,
        "task_json": '{"kind": "sdk"}',
        "repetitions": 1,
        "max_concurrency": 8,
    }
    return ExperimentRequested(**asked | fields)


def evaluation(name: str = "exact", **fields: Any) -> ItemEvaluation:
    """That something is so, unless `fields` say otherwise."""
    return ItemEvaluation(name=name, **fields or {"boolean": True})


def result(run_id: str = "r", item_id: str = "i", **fields: Any) -> ExperimentItemFinished:
    """What came of an item, in a second."""
    told: dict[str, Any] = {
        "run_id": run_id,
        "item_id": item_id,
        "trace_id": b"t" * 16,
        "output_json": '"because"',
        "started_at": Timestamp(seconds=1_700_000_000),
        "ended_at": Timestamp(seconds=1_700_000_001),
        "evaluations": [evaluation()],
        "attempts": 1,
    }
    return ExperimentItemFinished(**told | fields)


def told(*payloads: ExperimentItemFinished | ExperimentFinished) -> Sequence[Event]:
    """As events of a program's."""
    return [
        Event(event_id=str(uuid.uuid4()), experiment_item_finished=payload)
        if isinstance(payload, ExperimentItemFinished)
        else Event(event_id=str(uuid.uuid4()), experiment_finished=payload)
        for payload in payloads
    ]
