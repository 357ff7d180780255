"""Which providers of models a run may name: those that evaluation workers offer."""

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from shared.read_model.model_parameters import check_parameters
from shared.runtime.refusal import InvalidError, UnavailableError

_OFFERED = "SELECT provider, kind FROM lodestream.providers WHERE offered_until > now() ORDER BY provider"


class Providers:
    """Knows what workers offer, as they have last said in the database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def check(self, task: Mapping[str, Any], specs: Mapping[str, Sequence[Mapping[str, Any]]], path: str) -> None:
        """Check the provider and the settings of the task, and those of evaluators that have a model judge.

        Raises InvalidError naming the field whose provider nobody offers or the setting that a run may not set, and
        UnavailableError when the database does not answer.
        """
        try:
            offered = {row["provider"]: row["kind"] for row in await self._pool.fetch(_OFFERED)}
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise UnavailableError("providers can't be read: the database does not answer", retry_seconds=5) from error
        askers = {f"{path}.task_json": task} | {
            f"{path}.{field}[{n}]": spec
            for field, its in specs.items()
            for n, spec in enumerate(its)
            if isinstance(spec.get("provider"), str)
        }
        for field, asker in askers.items():
            kind = offered.get(asker["provider"])
            if kind is None:
                may = f"the project may use {', '.join(offered)}" if offered else "no worker offers any"
                raise InvalidError(f"{field}.provider", f"there is no provider {asker['provider']!r:.100}; {may}")
            check_parameters(asker.get("settings") or {}, kind, f"{field}.settings")
