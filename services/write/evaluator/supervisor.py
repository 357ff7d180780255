"""Looks after runs: plans them, ends them, sweeps up after them. All workers do, one at a time for each run."""

import asyncio
import random
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
import structlog
from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested
from lodestream_proto.v1.experiments_pb2 import EXPERIMENT_STATE_RUNNING

from services.write.evaluator.finisher import Finisher
from services.write.evaluator.fold import Run
from services.write.evaluator.planner import NotYetError, Planner
from services.write.evaluator.tasks import TaskError
from shared.read_model.postgres import load_sql

log = structlog.get_logger()

_SQL = Path(__file__).parent / "sql"
_DUE = load_sql(_SQL / "due.sql")
_LOOK_AGAIN = load_sql(_SQL / "look_again.sql")
_SWEEP = load_sql(_SQL / "sweep.sql")
_PROVIDERS_GONE = load_sql(_SQL / "providers_gone.sql")
_LOOK_SECONDS = 0.5
_LONGEST_WAIT = 5.0
_PATIENCE = 3.0
"""Seconds for which a run that this worker can't run is left to the others, who may know more."""
_AT_ONCE = 16


class Caretaker:
    """Looks at runs that are due."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        planner: Planner,
        finisher: Finisher,
        *,
        providers: Collection[str],
        provider_grace_seconds: float,
    ) -> None:
        """`providers`: what this worker offers itself. Others' are waited for `provider_grace_seconds`."""
        self._pool, self._planner, self._finisher = pool, planner, finisher
        self._offered, self._grace = frozenset(providers), provider_grace_seconds
        self._since = monotonic()
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
            elif reason := await self._abandoned(row, age):
                await self._finisher.fail(run, reason)
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

    async def _abandoned(self, row: Any, age: float) -> str:
        """Why a run has to end whose providers no worker has offered for the time of grace; empty: it goes on.

        The grace counts from this worker's own start too: after an outage of all, some may come back before others.
        """
        others = {row["provider"], *row["providers"]} - self._offered
        if not others or row["state"] != EXPERIMENT_STATE_RUNNING:
            return ""
        if min(age, monotonic() - self._since) < self._grace:
            return ""
        found = await self._pool.fetchrow(_PROVIDERS_GONE, sorted(others))
        assert found is not None
        if not found["gone"]:
            return ""
        name, offered = found["gone"][0], ", ".join(found["offered"]) or "none"
        field = "task_json.provider" if name == row["provider"] else "evaluators_json"
        return f"{field}: no worker has offered the provider {name!r} for {self._grace:g} s; there are {offered}"
