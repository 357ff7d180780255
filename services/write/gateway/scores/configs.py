"""The configs that scores keep to, remembered for seconds, so that a score costs no query."""

import time
from collections import OrderedDict
from collections.abc import Callable, Collection

import asyncpg
from lodestream_proto.v1.score_event_pb2 import ScoreConfigDefined

from services.write.gateway.scores.checks import Configs, is_id
from shared.runtime.refusal import UnavailableError
from shared.storage.postgres import DATABASE_ERRORS
from shared.storage.score_configs import COLUMNS, config_of

FRESH_SECONDS = 5.0
"""A config that was changed, also by another gateway, is kept to after this time at the latest."""
_REMEMBERED = 10_000
_Key = tuple[str, str]  # project, config


class ScoreConfigs:
    """Answers with the configs of a project. One that is not known is asked for each time: it may just be defined."""

    def __init__(self, pool: asyncpg.Pool, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool, self._clock = pool, clock
        self._known: OrderedDict[_Key, tuple[ScoreConfigDefined, float]] = OrderedDict()

    async def find(self, project_id: str, config_ids: Collection[str]) -> Configs:
        """Those of these ids that there are.

        Raises UnavailableError when they can't be read now.
        """
        wanted = {config_id for config_id in config_ids if is_id(config_id)}
        if not wanted:
            return {}
        oldest = self._clock() - FRESH_SECONDS
        found = {
            config_id: known[0]
            for config_id in wanted
            if (known := self._known.get((project_id, config_id))) and known[1] > oldest
        }
        if missing := wanted - found.keys():
            found |= await self._read(project_id, missing)
        return found

    def forget(self, project_id: str, config_id: str) -> None:
        """Ask again: it was changed."""
        self._known.pop((project_id, config_id), None)

    async def _read(self, project_id: str, config_ids: Collection[str]) -> Configs:
        asked_at = self._clock()
        try:
            rows = await self._pool.fetch(_READ, project_id, list(config_ids))
        except DATABASE_ERRORS as error:
            raise UnavailableError(
                "score configs can't be read: the database does not answer", retry_seconds=5
            ) from error
        found = {row["config_id"]: config_of(row) for row in rows}
        for config_id, config in found.items():
            self._known[project_id, config_id] = config, asked_at
            self._known.move_to_end((project_id, config_id))
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found


_READ = f"SELECT {COLUMNS} FROM score_configs WHERE project_id = $1 AND config_id = ANY($2)"
