"""What the read models have of that which native events name: configs of scores, and runs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from services.write.gateway.experiments.events import runs_named
from services.write.gateway.experiments.runs import Runs
from services.write.gateway.scores.checks import Configs
from services.write.gateway.scores.configs import ScoreConfigs
from services.write.gateway.scores.events import configs_named


@dataclass(frozen=True, slots=True)
class Named:
    """Of what a request's events name: what there is."""

    configs: Configs = field(default_factory=dict)
    runs: Collection[str] = ()


class Known:
    """Looks up what events name. One for a process."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.configs = ScoreConfigs(pool)
        self.runs = Runs(pool)

    async def find(self, project_id: str, events: Sequence[Any]) -> Named:
        """What there is of that which these events name.

        Raises UnavailableError when that can't be read now.
        """
        return Named(
            await self.configs.find(project_id, configs_named(events)),
            await self.runs.find(project_id, runs_named(events)),
        )
