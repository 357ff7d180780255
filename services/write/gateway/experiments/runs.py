"""The runs that there are: what is told of a run must come after it in the log."""

from collections import OrderedDict
from collections.abc import Awaitable, Collection
from dataclasses import dataclass
from typing import TypeVar

import asyncpg
from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested

from shared.runtime.refusal import UnavailableError
from shared.storage.postgres import DATABASE_ERRORS

Found = TypeVar("Found")
_REMEMBERED = 10_000
_THERE = "SELECT run_id FROM experiment_runs WHERE project_id = $1 AND run_id = ANY($2)"
_STORED = "SELECT request, state FROM experiment_runs WHERE project_id = $1 AND run_id = $2"
_NAMED = """
SELECT run_id FROM experiment_runs WHERE project_id = $1 AND dataset_id = $2 AND name = $3 AND run_id <> $4 LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """A run as it was asked for, and how it is."""

    request: ExperimentRequested
    state: int
    """lodestream_proto.v1.ExperimentState."""


class Runs:
    """Finds runs of a project. All raise UnavailableError when the database does not answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def find(self, project_id: str, run_ids: Collection[str]) -> Collection[str]:
        """Those of these ids that there are. A run that there is, is for ever; for another one is asked each time."""
        found = {run_id for run_id in run_ids if (project_id, run_id) in self._known}
        missing = [run_id for run_id in run_ids if run_id not in found and "\0" not in run_id]
        if missing:
            rows = await _read(self._pool.fetch(_THERE, project_id, missing))
            found |= {row["run_id"] for row in rows}
        for run_id in found:
            self._known[project_id, run_id] = None
            self._known.move_to_end((project_id, run_id))
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found

    async def stored(self, project_id: str, run_id: str) -> Stored | None:
        """The run of this id."""
        row = await _read(self._pool.fetchrow(_STORED, project_id, run_id))
        return None if row is None else Stored(ExperimentRequested.FromString(row["request"]), row["state"])

    async def named_alike(self, project_id: str, requested: ExperimentRequested) -> str | None:
        """The id of another run over any version of the dataset that has the name of this one."""
        place = requested.dataset_id, requested.name, requested.run_id
        found: str | None = await _read(self._pool.fetchval(_NAMED, project_id, *place))
        return found


async def _read(reading: Awaitable[Found]) -> Found:
    try:
        return await reading
    except DATABASE_ERRORS as error:
        raise UnavailableError("runs can't be read: the database does not answer", retry_seconds=5) from error
