"""The runs that there are: what is told of a run must come after it in the log."""

from collections import OrderedDict
from collections.abc import Collection

import asyncpg

from shared.runtime.refusal import UnavailableError

_REMEMBERED = 10_000
_READ = "SELECT run_id FROM experiments.experiment_runs WHERE project_id = $1 AND run_id = ANY($2)"


class Runs:
    """Answers which runs a project has. A run that there is, is for ever; one that is not is asked for each time."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def find(self, project_id: str, run_ids: Collection[str]) -> Collection[str]:
        """Those of these ids that there are.

        Raises UnavailableError when they can't be read now.
        """
        found = {run_id for run_id in run_ids if (project_id, run_id) in self._known}
        missing = [run_id for run_id in run_ids if run_id not in found and "\0" not in run_id]
        if missing:
            found |= await self._read(project_id, missing)
        for run_id in found:
            self._known[project_id, run_id] = None
            self._known.move_to_end((project_id, run_id))
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found

    async def _read(self, project_id: str, run_ids: Collection[str]) -> set[str]:
        try:
            rows = await self._pool.fetch(_READ, project_id, run_ids)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise UnavailableError("runs can't be read: the database does not answer", retry_seconds=5) from error
        return {row["run_id"] for row in rows}
