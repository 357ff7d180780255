"""What a run may be of: its task, its evaluators, the prompts that they name and the models that they call."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import grpc
from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested
from lodestream_proto.v1.prompts_pb2 import PromptSelector

from services.write.gateway.schema_sandbox import Judge, SpecError
from shared.rules.experiments import MAX_EVALUATION_NAME, check_specs, check_task
from shared.rules.json_texts import read_json
from shared.rules.model_parameters import check_parameters
from shared.rules.prompts import check_selector
from shared.rules.texts import check_line
from shared.runtime.refusal import InvalidError, NotFoundError, RefusedError, UnavailableError
from shared.storage.postgres import DATABASE_ERRORS
from shared.storage.prompt_heads import PRODUCTION, version_meant
from shared.storage.prompt_rows import read_heads
from shared.storage.provider_access import Access, read_access, read_caps

_MAX_NAME = 255
_KNOWN = ("kind", "prompt", "provider", "model", "settings")
_KNOWN_OF_PROMPTS = ("name", "version", "label")
_OF_THE_CALL = ("messages", "model", "n", "stream")
"""Settings that are not the user's to choose."""


@dataclass(frozen=True, slots=True)
class PromptTask:
    """A prompt against a model, as it was asked for."""

    told: Mapping[str, Any]
    prompt: PromptSelector
    """By version, or by label."""

    def of_version(self, version: int) -> dict[str, Any]:
        """The task with the version that is meant; a label that told which stays beside it."""
        prompt: dict[str, Any] = {"name": self.prompt.name, "version": version}
        if self.prompt.HasField("label"):
            prompt["label"] = self.prompt.label
        return {**self.told, "prompt": prompt}

    def version_in(self, task_json: str) -> int | None:
        """The version of a task that was asked for by the same label of the same prompt; None: it was not."""
        prompt = read_json(task_json).get("prompt")
        if not isinstance(prompt, dict) or not self.prompt.HasField("label"):
            return None
        is_same = (prompt.get("name"), prompt.get("label")) == (self.prompt.name, self.prompt.label)
        version = prompt.get("version")
        return version if is_same and isinstance(version, int) else None


def read_task(task_json: str, path: str) -> PromptTask | None:
    """The task when it is a prompt's; None: it is a program's own.

    Raises InvalidError naming the field.
    """
    task = check_task(task_json, path)
    if task["kind"] != "prompt":
        return None
    _check_names(task, _KNOWN, path)
    for name in ("provider", "model"):
        _check_line(task.get(name), f"{path}.{name}")
    settings = task.get("settings", {})
    if not isinstance(settings, dict):
        raise InvalidError(f"{path}.settings", "is no JSON object")
    for name in _OF_THE_CALL:
        if name in settings:
            raise InvalidError(f"{path}.settings.{name}", "is not for settings to say")
    return PromptTask(task, _prompt_selector(task.get("prompt"), f"{path}.prompt"))


def _prompt_selector(told: Any, path: str) -> PromptSelector:
    if told is None:
        raise InvalidError(path, "is missing")
    if not isinstance(told, dict):
        raise InvalidError(path, "is no JSON object")
    _check_names(told, _KNOWN_OF_PROMPTS, path)
    version, label = told.get("version"), told.get("label")
    _check_line(told.get("name"), f"{path}.name")
    selector = PromptSelector(name=told["name"])
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


def _check_names(told: Mapping[str, Any], known: Collection[str], path: str) -> None:
    for name in told:
        if name not in known:
            raise InvalidError(f"{path}.{name:.100}", f"is none of {', '.join(known)}")


def _check_line(text: Any, path: str) -> None:
    if text is None:
        raise InvalidError(path, "is missing")
    if not isinstance(text, str):
        raise InvalidError(path, "is no text")
    check_line(text, path, most=_MAX_NAME)


FIELDS = ("evaluators_json", "run_evaluators_json")
_FUNCTION = "function"
Specs = Mapping[str, Sequence[dict[str, Any]]]
"""Of evaluators, by the field of ExperimentRequested they are in."""


async def check_evaluators(
    project_id: str, requested: ExperimentRequested, path: str, judge: Judge, *, of_a_program: bool
) -> Specs:
    """The specs of a run's evaluators.

    Raises InvalidError naming the setting of the one that can't be.
    """
    specs = {field: check_specs(getattr(requested, field), f"{path}.{field}") for field in FIELDS}
    own = {
        (field, n): _function_name(spec, f"{path}.{field}[{n}]")
        for field, its in specs.items()
        for n, spec in enumerate(its)
        if of_a_program and spec.get("kind") == _FUNCTION
    }
    names = {**own, **await _names_of(project_id, specs, own.keys(), path, judge)}
    for field, its in specs.items():
        seen: set[str] = set()
        for n in range(len(its)):
            if (name := names[field, n]) in seen:
                raise InvalidError(f"{path}.{field}[{n}].name", f"{name!r} is the name of another one, too")
            seen.add(name)
    return specs


async def _names_of(project_id: str, specs: Specs, but: Any, path: str, judge: Judge) -> dict[tuple[str, int], str]:
    """The names of those that the server knows, by field and place."""
    places = {field: [n for n in range(len(its)) if (field, n) not in but] for field, its in specs.items()}
    known = {field: [specs[field][n] for n in its] for field, its in places.items() if its}
    if not known:
        return {}
    try:
        names = await judge.names(project_id, known)
    except SpecError as error:
        if error.place < 0:
            raise InvalidError(f"{path}.{error.field}", error.why) from None
        where = f"{path}.{error.field}[{places[error.field][error.place]}]"
        raise InvalidError(f"{where}.{error.setting}" if error.setting else where, error.why) from None
    return {(field, n): name for field, its in names.items() for n, name in zip(places[field], its, strict=True)}


def _function_name(spec: Mapping[str, Any], path: str) -> str:
    name = spec.get("name")
    if not isinstance(name, str):
        raise InvalidError(f"{path}.name", "is missing" if name is None else "is no text")
    check_line(name, f"{path}.name", most=MAX_EVALUATION_NAME)
    return name


class Prompts:
    """Finds versions as the read model has them. All raise NotFoundError, naming the field."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def task(self, project_id: str, task: PromptTask, there: str, path: str) -> dict[str, Any]:
        """The task, of a version that there is; of the same as that of the run that is there, by the same label."""
        version = task.version_in(there) if there else None
        return task.of_version(version or await self._version(project_id, task.prompt, f"{path}.prompt"))

    async def specs(
        self, project_id: str, specs: Sequence[dict[str, Any]], there: str, path: str
    ) -> list[dict[str, Any]]:
        """The specs of evaluators, their rubrics of versions that there are.

        Evaluators take no label beside a version: a rubric that was left open is that of the run that is there, if all
        else of it is the same.
        """
        held = read_json(there) or []
        pinned = []
        for n, spec in enumerate(specs):
            prompt = spec.get("prompt")
            if not isinstance(prompt, dict):
                pinned.append(spec)
                continue
            stored = held[n] if n < len(held) else {}
            if prompt.get("version") is None and _is_same_but_for_version(spec, stored):
                pinned.append(stored)
                continue
            version = await self._version(project_id, _selector(prompt), f"{path}[{n}].prompt")
            pinned.append({**spec, "prompt": {"name": prompt["name"], "version": version}})
        return pinned

    async def _version(self, project_id: str, prompt: PromptSelector, path: str) -> int:
        check_selector(prompt, path)
        place = project_id, prompt.name
        try:
            head = (await read_heads(self._pool, [place]))[place]
        except DATABASE_ERRORS as error:
            raise UnavailableError("prompts can't be read: the database does not answer", retry_seconds=5) from error
        found = version_meant(head, prompt)
        if found is None:
            its = f"label {prompt.label!r}" if prompt.HasField("label") else f"version {prompt.version}"
            raise NotFoundError(f"{its} of a prompt {prompt.name!r} ({path})")
        return found


def _selector(prompt: Mapping[str, Any]) -> PromptSelector:
    if (version := prompt.get("version")) is not None:
        return PromptSelector(name=prompt["name"], version=version)
    return PromptSelector(name=prompt["name"], label=prompt.get("label") or PRODUCTION)


def _is_same_but_for_version(spec: Mapping[str, Any], stored: Mapping[str, Any]) -> bool:
    prompt = stored.get("prompt")
    return (
        isinstance(prompt, dict)
        and prompt.get("name") == spec["prompt"]["name"]
        and {**spec, "prompt": prompt} == stored
    )


class Providers:
    """Knows what workers offer, as they have last said in the database, and what the operator has granted there."""

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
        try:
            access, caps = await read_access(self._pool, project_id), await read_caps(self._pool, project_id)
        except DATABASE_ERRORS as error:
            raise UnavailableError("providers can't be read: the database does not answer", retry_seconds=5) from error
        _check_asker(task, access, f"{path}.task_json")
        for field, its in specs.items():
            for n, spec in enumerate(its):
                if isinstance(spec.get("provider"), str):
                    _check_asker(spec, access, f"{path}.{field}[{n}]")
        for cap in caps:
            if why := cap.why_reached():
                raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, f"the spending cap is reached: {why}")


def _check_asker(asker: Mapping[str, Any], access: Mapping[str, Access], field: str) -> None:
    provider = asker["provider"]
    its = access.get(provider)
    if its is None:
        may = f"the project may use {', '.join(access)}" if access else "no worker offers any that the project may use"
        raise InvalidError(f"{field}.provider", f"there is no provider {provider!r:.100}; {may}")
    if why := its.why_not(str(asker.get("model"))):
        raise InvalidError(f"{field}.model", why)
    check_parameters(asker.get("settings") or {}, its.kind, f"{field}.settings")
