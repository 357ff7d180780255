"""CompareExperiments: is one run better than another, and by how much."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from lodestream_proto.v1.experiments_pb2 import CompareExperimentsRequest, CompareExperimentsResponse, ExperimentRun

from services.read.query.database import Database
from services.read.query.experiments.comparing.asked import Asked, read_request
from services.read.query.experiments.comparing.reading import RunRead, evaluation_names, read_run
from services.read.query.experiments.runs import find_run, messages_of
from services.read.query.experiments.summaries import Summaries
from services.read.query.paging import snapshot
from services.read.query.reading import COMPARISONS
from shared.runtime.fairness import FairLimiter
from shared.runtime.refusal import InvalidError

_MOST_VALUES = 2_000_000
"""Of all items, repetitions and metrics of an answer: more would not fit the memory of a small process."""


class Comparisons:
    """The comparisons of one service, few at a time, beside its event loop."""

    def __init__(self, summaries: Summaries, turns: FairLimiter) -> None:
        self._summaries, self._turns = summaries, turns
        self._threads = ThreadPoolExecutor(COMPARISONS, "compare")

    async def compare_experiments(
        self, database: Database, project_id: str, request: CompareExperimentsRequest
    ) -> CompareExperimentsResponse:
        """The candidates beside the baseline.

        Raises RefusedError: a field can't be used, the project has no such run, or it compares too much at once.
        """
        asked = read_request(request)
        async with self._turns.hold(project_id):
            runs, read = await self._read(database, project_id, asked)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, _answer, asked, runs, read)

    async def _read(
        self, database: Database, project_id: str, asked: Asked
    ) -> tuple[Sequence[ExperimentRun], Sequence[RunRead]]:
        """All runs as they are at one moment, the baseline first."""
        fields = {"baseline_run_id": asked.baseline_id} | {f"run_ids[{n}]": id_ for n, id_ in enumerate(asked.run_ids)}
        async with snapshot(database) as connection:
            rows = [await find_run(connection, project_id, run_id, field=field) for field, run_id in fields.items()]
            names = await evaluation_names(connection, project_id, [row["run_id"] for row in rows])
            wanted = asked.wanted_of(names)
            values = sum(row["items_finished"] for row in rows) * max(1, len(wanted))
            if values > _MOST_VALUES:
                raise InvalidError(
                    "metrics", f"about {values:,} values; at most {_MOST_VALUES:,}: ask for fewer or fewer runs"
                )
            runs = await messages_of(connection, project_id, rows, self._summaries)
            return runs, [await read_run(connection, project_id, row, wanted) for row in rows]


def _answer(asked: Asked, runs: Sequence[ExperimentRun], read: Sequence[RunRead]) -> CompareExperimentsResponse:
    from services.read.query.experiments.comparing.answer import (
        answer,
    )  # SciPy takes seconds: with the first comparison

    return answer(asked, runs, read)
