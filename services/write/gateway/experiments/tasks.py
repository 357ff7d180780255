"""What the task of a run may say. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from lodestream_proto.v1.prompts_pb2 import PromptSelector

from shared.rules.experiments import check_task
from shared.rules.json_texts import read_json
from shared.rules.prompts import check_selector
from shared.rules.texts import check_line
from shared.runtime.refusal import InvalidError
from shared.storage.prompt_heads import PRODUCTION

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
    return PromptTask(task, _prompt(task.get("prompt"), f"{path}.prompt"))


def _prompt(told: Any, path: str) -> PromptSelector:
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
