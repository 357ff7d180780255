"""The task and the evaluator specs of a run, read from its request. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested

_RESERVED_SETTINGS = frozenset({"model", "messages", "stream", "n"})
"""Parameters of a model call that the worker sets itself."""


class TaskError(ValueError):
    """The run can't be run as it was requested; the message names the field."""


@dataclass(frozen=True, slots=True)
class Task:
    """A version of a prompt against a model of a provider."""

    prompt_name: str
    prompt_version: int
    provider: str
    model: str
    settings: Mapping[str, Any]


def is_run_by_client(request: ExperimentRequested) -> bool:
    """Whether a program runs the task itself, through the SDK, so that workers leave the run alone."""
    try:
        return _object(request.task_json, "task_json").get("kind") == "sdk"
    except TaskError:
        return False


def parse_task(request: ExperimentRequested) -> Task:
    """Return the task of a request.

    Raises TaskError.
    """
    task = _object(request.task_json, "task_json")
    if task.get("kind") != "prompt":
        raise TaskError(f"task_json.kind: {task.get('kind')!r:.100} is not a kind of task that workers run")
    prompt = task.get("prompt")
    if not isinstance(prompt, dict):
        raise TaskError("task_json.prompt: is missing")
    version = prompt.get("version")
    if isinstance(version, bool) or not isinstance(version, int) or not 0 < version < 2**31:
        raise TaskError("task_json.prompt.version: is not a version number")
    settings = task.get("settings", {})
    if not isinstance(settings, dict):
        raise TaskError("task_json.settings: is not an object")
    if reserved := sorted(_RESERVED_SETTINGS & settings.keys()):
        raise TaskError(f"task_json.settings.{reserved[0]}: is not for settings to say")
    if not request.dataset_id:
        raise TaskError("dataset_id: is missing; a prompt runs over a dataset")
    return Task(
        _text(prompt.get("name"), "task_json.prompt.name"),
        version,
        _text(task.get("provider"), "task_json.provider"),
        _text(task.get("model"), "task_json.model"),
        settings,
    )


def missing_prompt(task: Task) -> str:
    """Say that the prompt of a task does not exist."""
    return f"task_json.prompt: there is no version {task.prompt_version} of the prompt {task.prompt_name!r}"


def required_providers(request: ExperimentRequested) -> list[str]:
    """Return the providers that the run's items call: the task's, and those of LLM judges.

    Raises TaskError.
    """
    specs = parse_specs(request.evaluators_json, "evaluators_json")
    judges = {name for spec in specs if isinstance(name := spec.get("provider"), str)}
    return sorted({parse_task(request).provider, *judges})


def parse_specs(text: str, field: str) -> list[Mapping[str, Any]]:
    """Return the evaluator specs that a field of the request holds as JSON.

    Raises TaskError.
    """
    if not text:
        return []
    specs = _json(text, field)
    if not isinstance(specs, list):
        raise TaskError(f"{field}: is not a list")
    for n, spec in enumerate(specs):
        if not isinstance(spec, dict):
            raise TaskError(f"{field}[{n}]: is not an object")
    return specs


def _object(text: str, field: str) -> dict[str, Any]:
    value = _json(text, field)
    if not isinstance(value, dict):
        raise TaskError(f"{field}: is not an object")
    return value


def _json(text: str, field: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{field}: is not JSON: {error}"[:500]) from None


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str) or not value:
        raise TaskError(f"{field}: is missing")
    return value
