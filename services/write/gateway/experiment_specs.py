"""The specs of a run: its task, its evaluators, the prompts that they refer to and the models that they call."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import grpc
from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested
from lodestream_proto.v1.prompts_pb2 import PromptSelector

from services.write.gateway.schema_sandbox import SchemaSandbox, SpecError
from shared.rules.experiments import MAX_EVALUATION_NAME, check_specs, check_task
from shared.rules.json_texts import read_json
from shared.rules.model_parameters import check_parameters
from shared.rules.prompts import check_selector
from shared.rules.texts import check_line
from shared.runtime.refusal import InvalidError, NotFoundError, RefusedError
from shared.storage.postgres import reading
from shared.storage.prompt_heads import PRODUCTION, version_meant
from shared.storage.prompt_rows import read_heads
from shared.storage.provider_access import Access, read_access, read_caps

Specs = Mapping[str, Sequence[dict[str, Any]]]
"""The specs of evaluators, by the field of ExperimentRequested that they are in."""
_EVALUATOR_FIELDS = ("evaluators_json", "run_evaluators_json")
_FUNCTION = "function"
_MAX_NAME = 255  # characters
_TASK_FIELDS = ("kind", "prompt", "provider", "model", "settings")
_PROMPT_FIELDS = ("name", "version", "label")
_CALL_SETTINGS = ("messages", "model", "n", "stream")
"""Settings of a call that the task itself decides."""


@dataclass(frozen=True, slots=True)
class PromptTask:
    """A task that calls a model with a prompt, as it was requested."""

    fields: Mapping[str, Any]
    """The task's JSON."""
    prompt: PromptSelector
    """The prompt, by version or by label."""

    def with_version(self, version: int) -> dict[str, Any]:
        """Return the task's JSON with a version of the prompt; the label that selected it stays beside it."""
        prompt: dict[str, Any] = {"name": self.prompt.name, "version": version}
        if self.prompt.HasField("label"):
            prompt["label"] = self.prompt.label
        return {**self.fields, "prompt": prompt}

    def version_in(self, task_json: str) -> int | None:
        """Return the version in a stored task whose prompt and label are the same; None otherwise."""
        prompt = read_json(task_json).get("prompt")
        if not isinstance(prompt, dict) or not self.prompt.HasField("label"):
            return None
        is_same = (prompt.get("name"), prompt.get("label")) == (self.prompt.name, self.prompt.label)
        version = prompt.get("version")
        return version if is_same and isinstance(version, int) else None


def read_task(task_json: str, path: str) -> PromptTask | None:
    """Return a task that calls a model with a prompt; None for a program's own task.

    Raises InvalidError naming the field.
    """
    task = check_task(task_json, path)
    if task["kind"] != "prompt":
        return None
    _check_names(task, _TASK_FIELDS, path)
    for name in ("provider", "model"):
        _check_line(task.get(name), f"{path}.{name}")
    settings = task.get("settings", {})
    if not isinstance(settings, dict):
        raise InvalidError(f"{path}.settings", "is no JSON object")
    for name in _CALL_SETTINGS:
        if name in settings:
            raise InvalidError(f"{path}.settings.{name}", "is not for settings to say")
    return PromptTask(task, _prompt_selector(task.get("prompt"), f"{path}.prompt"))


def _prompt_selector(prompt: Any, path: str) -> PromptSelector:
    if prompt is None:
        raise InvalidError(path, "is missing")
    if not isinstance(prompt, dict):
        raise InvalidError(path, "is no JSON object")
    _check_names(prompt, _PROMPT_FIELDS, path)
    version, label = prompt.get("version"), prompt.get("label")
    _check_line(prompt.get("name"), f"{path}.name")
    selector = PromptSelector(name=prompt["name"])
    if version is not None:
        if isinstance(version, bool) or not isinstance(version, int) or not 0 < version < 2**31:
            raise InvalidError(f"{path}.version", "is no number of a version")
        selector.version = version
    else:
        label = PRODUCTION if label is None else label
        _check_line(label, f"{path}.label")
        selector.label = label
    check_selector(selector, path)
    return selector


def _check_names(fields: Mapping[str, Any], allowed: Collection[str], path: str) -> None:
    for name in fields:
        if name not in allowed:
            raise InvalidError(f"{path}.{name:.100}", f"is none of {', '.join(allowed)}")


def _check_line(text: Any, path: str) -> None:
    if text is None:
        raise InvalidError(path, "is missing")
    if not isinstance(text, str):
        raise InvalidError(path, "is no text")
    check_line(text, path, most=_MAX_NAME)


async def check_evaluators(
    project_id: str, requested: ExperimentRequested, path: str, sandbox: SchemaSandbox, *, of_a_program: bool
) -> Specs:
    """Return the specs of a run's evaluators; a run `of_a_program` may have its own functions among them.

    Raises InvalidError naming the setting of the one that can't be used.
    """
    specs = {field: check_specs(getattr(requested, field), f"{path}.{field}") for field in _EVALUATOR_FIELDS}
    own = {
        (field, n): _function_name(spec, f"{path}.{field}[{n}]")
        for field, field_specs in specs.items()
        for n, spec in enumerate(field_specs)
        if of_a_program and spec.get("kind") == _FUNCTION
    }
    names = {**own, **await _names_of(project_id, specs, own.keys(), path, sandbox)}
    for field, field_specs in specs.items():
        seen: set[str] = set()
        for n in range(len(field_specs)):
            if (name := names[field, n]) in seen:
                raise InvalidError(f"{path}.{field}[{n}].name", f"{name!r} is the name of another one, too")
            seen.add(name)
    return specs


async def _names_of(
    project_id: str, specs: Specs, but: Collection[tuple[str, int]], path: str, sandbox: SchemaSandbox
) -> dict[tuple[str, int], str]:
    """Return the names of the server's evaluators, all `but` some, by field and index."""
    indexes = {
        field: [n for n in range(len(field_specs)) if (field, n) not in but] for field, field_specs in specs.items()
    }
    of_server = {field: [specs[field][n] for n in chosen] for field, chosen in indexes.items() if chosen}
    if not of_server:
        return {}
    try:
        names = await sandbox.evaluator_names(project_id, of_server)
    except SpecError as error:
        if error.index < 0:
            raise InvalidError(f"{path}.{error.field}", error.why) from None
        where = f"{path}.{error.field}[{indexes[error.field][error.index]}]"
        raise InvalidError(f"{where}.{error.setting}" if error.setting else where, error.why) from None
    return {
        (field, n): name
        for field, field_names in names.items()
        for n, name in zip(indexes[field], field_names, strict=True)
    }


def _function_name(spec: Mapping[str, Any], path: str) -> str:
    name = spec.get("name")
    if not isinstance(name, str):
        raise InvalidError(f"{path}.name", "is missing" if name is None else "is no text")
    check_line(name, f"{path}.name", most=MAX_EVALUATION_NAME)
    return name


class PromptPinning:
    """Pins prompts to versions as the read model has them. All methods raise NotFoundError, naming the field."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def pin_task(self, project_id: str, task: PromptTask, stored_json: str, path: str) -> dict[str, Any]:
        """Return a task's JSON with a version: that of the stored run's task (empty: none) if the label is the same."""
        version = task.version_in(stored_json) if stored_json else None
        return task.with_version(version or await self._version(project_id, task.prompt, f"{path}.prompt"))

    async def pin_rubrics(
        self, project_id: str, specs: Sequence[dict[str, Any]], stored_json: str, path: str
    ) -> list[dict[str, Any]]:
        """Return the specs of evaluators with versions of their rubrics.

        Evaluators take no label beside a version: a rubric that was left open is the stored run's, if the spec is the
        same in all else.
        """
        stored_specs = read_json(stored_json) or []
        pinned = []
        for n, spec in enumerate(specs):
            prompt = spec.get("prompt")
            if not isinstance(prompt, dict):
                pinned.append(spec)
                continue
            stored = stored_specs[n] if n < len(stored_specs) else {}
            if prompt.get("version") is None and _differs_in_version_only(spec, stored):
                pinned.append(stored)
                continue
            version = await self._version(project_id, _selector(prompt), f"{path}[{n}].prompt")
            pinned.append({**spec, "prompt": {"name": prompt["name"], "version": version}})
        return pinned

    async def _version(self, project_id: str, prompt: PromptSelector, path: str) -> int:
        check_selector(prompt, path)
        key = project_id, prompt.name
        with reading("prompts"):
            head = (await read_heads(self._pool, [key]))[key]
        version = version_meant(head, prompt)
        if version is None:
            which = f"label {prompt.label!r}" if prompt.HasField("label") else f"version {prompt.version}"
            raise NotFoundError(f"{which} of a prompt {prompt.name!r} ({path})")
        return version


def _selector(prompt: Mapping[str, Any]) -> PromptSelector:
    if (version := prompt.get("version")) is not None:
        return PromptSelector(name=prompt["name"], version=version)
    return PromptSelector(name=prompt["name"], label=prompt.get("label") or PRODUCTION)


def _differs_in_version_only(spec: Mapping[str, Any], stored: Mapping[str, Any]) -> bool:
    prompt = stored.get("prompt")
    return (
        isinstance(prompt, dict)
        and prompt.get("name") == spec["prompt"]["name"]
        and {**spec, "prompt": prompt} == stored
    )


class ProviderPolicy:
    """Which providers and models a run may call: those that workers offer and the operator grants the project."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def check(
        self,
        project_id: str,
        task: Mapping[str, Any],
        specs: Mapping[str, Sequence[Mapping[str, Any]]],
        path: str,
    ) -> None:
        """Check provider, model and settings of the task, and those of evaluators that have a model judge.

        Raises InvalidError naming the field whose provider or model the project may not use, or the setting that a run
        may not set; RefusedError when the project has spent what it may; and UnavailableError when the database does
        not answer.
        """
        with reading("providers"):
            access, caps = await read_access(self._pool, project_id), await read_caps(self._pool, project_id)
        _check_model(task, access, f"{path}.task_json")
        for field, field_specs in specs.items():
            for n, spec in enumerate(field_specs):
                if isinstance(spec.get("provider"), str):
                    _check_model(spec, access, f"{path}.{field}[{n}]")
        for cap in caps:
            if why := cap.why_reached():
                raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, f"the spending cap is reached: {why}")


def _check_model(spec: Mapping[str, Any], access: Mapping[str, Access], field: str) -> None:
    """Check the provider, model and settings of what calls a model: a task, or an evaluator."""
    provider = spec["provider"]
    granted = access.get(provider)
    if granted is None:
        may = f"the project may use {', '.join(access)}" if access else "no worker offers any that the project may use"
        raise InvalidError(f"{field}.provider", f"there is no provider {provider!r:.100}; {may}")
    if why := granted.why_not(str(spec.get("model"))):
        raise InvalidError(f"{field}.model", why)
    check_parameters(spec.get("settings") or {}, granted.kind, f"{field}.settings")
