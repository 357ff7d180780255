"""Which providers and models of them a run may name: what workers offer and the operator lets the project use."""

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import grpc

from shared.rules.model_parameters import check_parameters
from shared.runtime.refusal import InvalidError, RefusedError, UnavailableError
from shared.storage.postgres import DATABASE_ERRORS
from shared.storage.provider_access import Access, read_access, read_caps


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
