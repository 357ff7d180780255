"""What a run asks for, read from its request. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested

_OURS_TO_SET = frozenset({"model", "messages", "stream", "n"})
"""Of a call's settings."""


class TaskError(ValueError):
    """The run can't be run as it was asked for; the message names the field."""


@dataclass(frozen=True, slots=True)
class Task:
    """A prompt's version against a model."""

    prompt_name: str
    prompt_version: int
    provider: str
    model: str
    settings: Mapping[str, Any]


def is_a_programs(request: ExperimentRequested) -> bool:
    """Whether the task is one that a program runs by itself."""
    try:
        return _object(request.task_json, "task_json").get("kind") == "sdk"
    except TaskError:
        return False


def task_of(request: ExperimentRequested) -> Task:
    """The task.

    Raises TaskError.
    """
    told = _object(request.task_json, "task_json")
    if told.get("kind") != "prompt":
        raise TaskError(f"task_json.kind: {told.get('kind')!r:.100} is not a kind of task that workers run")
    prompt = told.get("prompt")
    if not isinstance(prompt, dict):
        raise TaskError("task_json.prompt: is missing")
    version = prompt.get("version")
    if isinstance(version, bool) or not isinstance(version, int) or not 0 < version < 2**31:
        raise TaskError("task_json.prompt.version: is no version number")
    settings = told.get("settings", {})
    if not isinstance(settings, dict):
        raise TaskError("task_json.settings: is no object")
    if taken := sorted(_OURS_TO_SET & settings.keys()):
        raise TaskError(f"task_json.settings.{taken[0]}: is not for settings to say")
    if not request.dataset_id:
        raise TaskError("dataset_id: is missing; a prompt runs over a dataset")
    return Task(
        _text(prompt.get("name"), "task_json.prompt.name"),
        version,
        _text(told.get("provider"), "task_json.provider"),
        _text(told.get("model"), "task_json.model"),
        settings,
    )


def providers_of(request: ExperimentRequested) -> list[str]:
    """The providers that items ask: the task's, and those of evaluators that have a model judge.

    Raises TaskError.
    """
    specs = specs_of(request.evaluators_json, "evaluators_json")
    judges = {name for spec in specs if isinstance(name := spec.get("provider"), str)}
    return sorted({task_of(request).provider, *judges})


def specs_of(text: str, field: str) -> list[Mapping[str, Any]]:
    """The specs of evaluators in a field of the request.

    Raises TaskError.
    """
    if not text:
        return []
    told = _json(text, field)
    if not isinstance(told, list):
        raise TaskError(f"{field}: is no list")
    for n, spec in enumerate(told):
        if not isinstance(spec, dict):
            raise TaskError(f"{field}[{n}]: is no object")
    return told


def _object(text: str, field: str) -> dict[str, Any]:
    told = _json(text, field)
    if not isinstance(told, dict):
        raise TaskError(f"{field}: is no object")
    return told


def _json(text: str, field: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{field}: is no JSON: {error}"[:500]) from None


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str) or not value:
        raise TaskError(f"{field}: is missing")
    return value
