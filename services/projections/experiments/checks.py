"""What of an event can't become a row, whatever the history of its subject is. Pure."""

import hashlib
import re
from collections.abc import Sequence
from math import isfinite
from typing import Any

import orjson
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.experiment_event_pb2 import (
    DatasetArchived,
    DatasetCreated,
    DatasetItemArchived,
    DatasetItemRecorded,
    ExperimentCancelled,
    ExperimentFinished,
    ExperimentItemFinished,
    ExperimentOutcome,
    ExperimentPaused,
    ExperimentRequested,
    ExperimentResumed,
    ItemEvaluation,
)

from shared.runtime.refusal import InvalidError

_MAX_ID_BYTES = 255
_MAX_DEPTH = 64
_MAX_NUMBER = 2**53
_MAX_REPETITIONS = 100
_FIRST_SECOND, _LAST_SECOND = 0, 253_402_300_799  # to the end of the year 9999
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_dataset(its: DatasetCreated, path: str) -> None:
    """Raises InvalidError when no dataset can be so."""
    _check_id(its.name, f"{path}.name")
    if its.dataset_id != hashlib.sha256(its.name.encode()).hexdigest()[:32]:
        raise InvalidError(f"{path}.dataset_id", "does not follow from the name")
    _check_text(its.description, f"{path}.description")
    for field in ("metadata_json", "input_schema_json", "expected_output_schema_json"):
        _check_json(getattr(its, field), f"{path}.{field}", least=0)
    _check_text(its.author, f"{path}.author")


def check_item(its: DatasetItemRecorded, path: str) -> None:
    """Raises InvalidError when no item can be so."""
    _check_id(its.dataset_id, f"{path}.dataset_id")
    _check_id(its.item_id, f"{path}.item_id")
    _check_json(its.input_json, f"{path}.input_json")
    _check_json(its.expected_output_json, f"{path}.expected_output_json", least=0)
    _check_json(its.metadata_json, f"{path}.metadata_json", least=0)
    _check_size(its.source_trace_id, f"{path}.source_trace_id", 16)
    _check_size(its.source_span_id, f"{path}.source_span_id", 8)
    for n, split in enumerate(its.splits):
        _check_id(split, f"{path}.splits[{n}]")
    _check_text(its.author, f"{path}.author")


def check_item_archival(its: DatasetItemArchived, path: str) -> None:
    """Raises InvalidError when no item can be archived by it."""
    _check_id(its.dataset_id, f"{path}.dataset_id")
    _check_id(its.item_id, f"{path}.item_id")
    _check_text(its.author, f"{path}.author")


def check_dataset_archival(its: DatasetArchived, path: str) -> None:
    """Raises InvalidError when no dataset can be archived by it."""
    _check_id(its.dataset_id, f"{path}.dataset_id")
    _check_text(its.author, f"{path}.author")


def check_request(its: ExperimentRequested, path: str) -> None:
    """Raises InvalidError when no run can be asked for by it."""
    _check_id(its.run_id, f"{path}.run_id")
    _check_id(its.name, f"{path}.name")
    if its.dataset_id:
        _check_id(its.dataset_id, f"{path}.dataset_id")
    _check_most(its.dataset_version, f"{path}.dataset_version", _MAX_NUMBER)
    _check_most(its.repetitions, f"{path}.repetitions", _MAX_REPETITIONS)
    for field in ("task_json", "evaluators_json", "metadata_json", "run_evaluators_json"):
        _check_json(getattr(its, field), f"{path}.{field}", least=0)
    for field in ("max_cost_usd", "max_seconds"):
        _check_finite(getattr(its.budget, field), f"{path}.budget.{field}")


def check_result(its: ExperimentItemFinished, path: str) -> None:
    """Raises InvalidError when no item can have come to its end so."""
    _check_id(its.run_id, f"{path}.run_id")
    _check_id(its.item_id, f"{path}.item_id")
    _check_most(its.repetition, f"{path}.repetition", _MAX_REPETITIONS - 1)
    _check_size(its.trace_id, f"{path}.trace_id", 16)
    for field in ("output_json", "input_json", "expected_output_json", "metadata_json"):
        _check_json(getattr(its, field), f"{path}.{field}", least=0)
    _check_instant(its.started_at, f"{path}.started_at")
    _check_instant(its.ended_at, f"{path}.ended_at")
    for field in ("input_tokens", "output_tokens", "cost_picodollars"):
        _check_most(getattr(its.usage, field), f"{path}.usage.{field}", _MAX_NUMBER)
    _check_evaluations(its.evaluations, f"{path}.evaluations")


def check_end(its: ExperimentFinished, path: str) -> None:
    """Raises InvalidError when no run can end by it."""
    _check_id(its.run_id, f"{path}.run_id")
    if its.outcome not in ExperimentOutcome.values():
        raise InvalidError(f"{path}.outcome", f"{its.outcome} is no outcome")
    _check_text(its.reason, f"{path}.reason")
    _check_evaluations(its.evaluations, f"{path}.evaluations")


def check_run(its: ExperimentCancelled | ExperimentPaused | ExperimentResumed, path: str) -> None:
    """Raises InvalidError when no run can be told so."""
    _check_id(its.run_id, f"{path}.run_id")
    _check_text(getattr(its, "reason", ""), f"{path}.reason")


def _check_evaluations(evaluations: Sequence[ItemEvaluation], path: str) -> None:
    names = set()
    for n, its in enumerate(evaluations):
        _check_id(its.name, f"{path}[{n}].name")
        if its.name in names:
            raise InvalidError(f"{path}[{n}].name", f"{its.name!r} is there twice")
        names.add(its.name)
        kind = its.WhichOneof("value")
        if kind is None:
            raise InvalidError(f"{path}[{n}].value", "is missing")
        if kind == "numeric":
            _check_finite(its.numeric, f"{path}[{n}].numeric")
        elif kind != "boolean":
            _check_text(getattr(its, kind), f"{path}[{n}].{kind}")


def _check_id(text: str, path: str) -> None:
    if not text:
        raise InvalidError(path, "is missing")
    if (size := len(text.encode())) > _MAX_ID_BYTES:
        raise InvalidError(path, f"has {size} bytes; at most {_MAX_ID_BYTES} are taken")
    if "\0" in text:
        raise InvalidError(path, "has a NUL character")
    if _CONTROL.search(text):
        raise InvalidError(path, "has a control character")


def _check_text(text: str, path: str) -> None:
    if "\0" in text:
        raise InvalidError(path, "has a NUL character")


def _check_json(text: str, path: str, *, least: int = 1) -> None:
    if len(text) < least:
        raise InvalidError(path, "is missing")
    if not text:
        return
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidError(path, f"is no JSON: {error}") from None
    if _depth(value) > _MAX_DEPTH:
        raise InvalidError(path, f"has more than {_MAX_DEPTH} lists and objects within each other")


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [its for its in level if isinstance(its, dict | list)]:
        depth += 1
        level = [inner for its in level for inner in (its.values() if isinstance(its, dict) else its)]
    return depth


def _check_size(its: bytes, path: str, size: int) -> None:
    if its and len(its) != size:
        raise InvalidError(path, f"has {len(its)} bytes instead of {size}")


def _check_most(number: int, path: str, most: int) -> None:
    if number > most:
        raise InvalidError(path, f"is {number}; at most {most} is taken")


def _check_finite(number: float, path: str) -> None:
    if not isfinite(number):
        raise InvalidError(path, f"{number} is no number")


def _check_instant(its: Timestamp, path: str) -> None:
    if not (_FIRST_SECOND <= its.seconds <= _LAST_SECOND and 0 <= its.nanos < 1_000_000_000):
        raise InvalidError(path, "is no instant between 1970 and 9999")
