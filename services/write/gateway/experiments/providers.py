"""Which providers of models a run may name: those that evaluation workers offer."""

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from shared.runtime.refusal import InvalidError, UnavailableError

_OFFERED = "SELECT provider FROM lodestream.providers WHERE offered_until > now() ORDER BY provider"


class Providers:
    """Knows what workers offer, as they have last said in the database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def check(self, task: Mapping[str, Any], specs: Mapping[str, Sequence[Mapping[str, Any]]], path: str) -> None:
        """Check the task's provider and those of the evaluators that have a model judge.

        Raises InvalidError naming the field whose provider nobody offers, and UnavailableError when the database does
        not answer.
        """
        try:
            offered = [row["provider"] for row in await self._pool.fetch(_OFFERED)]
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise UnavailableError("providers can't be read: the database does not answer", retry_seconds=5) from error
        named = {f"{path}.task_json.provider": task["provider"]} | {
            f"{path}.{field}[{n}].provider": spec["provider"]
            for field, its in specs.items()
            for n, spec in enumerate(its)
            if isinstance(spec.get("provider"), str)
        }
        for field, provider in named.items():
            if provider not in offered:
                may = f"the project may use {', '.join(offered)}" if offered else "no worker offers any"
                raise InvalidError(field, f"there is no provider {provider!r:.100}; {may}")
