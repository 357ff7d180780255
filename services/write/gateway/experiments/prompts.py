"""Prompts that runs name become versions: the task's, and those of judges' rubrics."""

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
from lodestream_proto.v1.prompts_pb2 import PromptSelector

from services.write.gateway.experiments.tasks import PromptTask
from shared.rules.json_texts import read_json
from shared.rules.prompts import check_selector
from shared.runtime.refusal import NotFoundError, UnavailableError
from shared.storage.postgres import DATABASE_ERRORS
from shared.storage.prompt_heads import PRODUCTION, version_meant
from shared.storage.prompt_rows import read_heads


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
