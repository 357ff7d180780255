"""Looks after runs: plans them, ends them, sweeps up after them. All workers do, one at a time for each run."""

import asyncio
import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import structlog
from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested

from services.write.evaluator.finishing import Finisher
from services.write.evaluator.folding.fold import Run
from services.write.evaluator.planning import NotYetError, Planner
from services.write.evaluator.tasks import TaskError
from shared.read_model.postgres import load_sql

log = structlog.get_logger()

_SQL = Path(__file__).parent / "sql"
_DUE = load_sql(_SQL / "due.sql")
_LOOK_AGAIN = load_sql(_SQL / "look_again.sql")
_SWEEP = load_sql(_SQL / "sweep.sql")
_LOOK_SECONDS = 0.5
_LONGEST_WAIT = 5.0
_PATIENCE = 3.0
"""Seconds for which a run that this worker can't run is left to the others, who may know more."""
_AT_ONCE = 16


class Caretaker:
    """Looks at runs that are due."""

    def __init__(self, pool: asyncpg.Pool, planner: Planner, finisher: Finisher) -> None:
        self._pool, self._planner, self._finisher = pool, planner, finisher
        self.woken = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled. A server that is away is no reason to stop."""
        while True:
            self.woken.clear()
            try:
                rows = await self._pool.fetch(_DUE, _AT_ONCE)
                for row in rows:
                    await self._look(row)
                await self._pool.execute(_SWEEP)
                if len(rows) == _AT_ONCE:
                    self.woken.set()  # there may be more
            except Exception as error:
                log.warning("runs can't be looked at", error=f"{type(error).__name__}: {error}"[:300])
                await asyncio.sleep(_LOOK_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.woken.wait(), random.uniform(0.5, 1) * _LOOK_SECONDS)  # noqa: S311

    async def _look(self, row: Any) -> None:
        run: Run = (row["project_id"], row["run_id"])
        request = ExperimentRequested.FromString(row["request"])
        age = (datetime.now(UTC) - row["requested_at"]).total_seconds()
        again = _LONGEST_WAIT  # whoever changes something of it says so
        try:
            if row["outcome"]:
                await self._finisher.tell(run, request, row["outcome"], row["reason"], row["told"])
            elif await self._finisher.settle(run):
                again = 0.0
            elif not row["planned"]:
                await self._planner.plan(run, request, row["partition"])
        except TaskError as error:
            if age < _PATIENCE:
                await self._pool.execute(_LOOK_AGAIN, *run, timedelta(seconds=random.uniform(0.2, 1)))  # noqa: S311
                return
            log.info("a run can't be run", project=run[0], run=run[1], reason=str(error))
            await self._finisher.fail(run, str(error))
            return
        except NotYetError as missing:
            again = min(max(0.1, 0.2 * age), _LONGEST_WAIT)
            log.info("a run waits", project=run[0], run=run[1], for_=str(missing), again_in=round(again, 1))
        except Exception as error:
            log.warning(
                "a run is looked at again", project=run[0], run=run[1], error=f"{type(error).__name__}: {error}"[:300]
            )
            again = _LONGEST_WAIT
        await self._pool.execute(_LOOK_AGAIN, *run, timedelta(seconds=again))
        if not again:
            self.woken.set()
