"""The supervisor checks runs: it plans them, ends them, and deletes their jobs. Every worker has one; each run is
checked by one of them at a time.
"""

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
from services.write.evaluator.jobs import Run
from services.write.evaluator.planner import NotReadyError, Planner
from services.write.evaluator.tasks import TaskError
from shared.storage.named_queries import load_queries

log = structlog.get_logger()

_RUNS = load_queries(Path(__file__).with_name("runs.sql"))
_CLAIM_DUE_RUNS, _CHECK_LATER = _RUNS["claim_due_runs"], _RUNS["check_later"]
_FIND_WITHDRAWN_PROVIDERS = _RUNS["find_withdrawn_providers"]
_DELETE_FINISHED_JOBS = load_queries(Path(__file__).with_name("jobs.sql"))["delete_finished_jobs"]
_POLL_SECONDS = 0.5
_MAX_WAIT_SECONDS = 5.0
_PATIENCE_SECONDS = 3.0
"""For so long after its request, a run that this worker can't run is left to others, which may have read more."""
_MAX_RUNS = 16


class RunSupervisor:
    """Checks the runs that are due."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        planner: Planner,
        finisher: Finisher,
        *,
        providers: Collection[str],
        provider_grace_seconds: float,
    ) -> None:
        """`providers` are what this worker offers; others' are waited for `provider_grace_seconds`."""
        self._pool, self._planner, self._finisher = pool, planner, finisher
        self._offered, self._grace = frozenset(providers), provider_grace_seconds
        self._started_at = monotonic()
        self.wake_up = asyncio.Event()
        """Set when a run may be due."""

    async def run(self) -> None:
        """Check runs until cancelled. A server that is away is no reason to stop."""
        while True:
            self.wake_up.clear()
            try:
                rows = await self._pool.fetch(_CLAIM_DUE_RUNS, _MAX_RUNS)
                for row in rows:
                    await self._check(row)
                await self._pool.execute(_DELETE_FINISHED_JOBS)
                if len(rows) == _MAX_RUNS:
                    self.wake_up.set()  # there may be more
            except Exception as error:
                log.warning("runs can't be looked at", error=f"{type(error).__name__}: {error}"[:300])
                await asyncio.sleep(_POLL_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.wake_up.wait(), random.uniform(0.5, 1) * _POLL_SECONDS)  # noqa: S311

    async def _check(self, row: Any) -> None:
        run: Run = (row["project_id"], row["run_id"])
        request = ExperimentRequested.FromString(row["request"])
        age = (datetime.now(UTC) - row["requested_at"]).total_seconds()
        next_check = _MAX_WAIT_SECONDS  # whoever changes something of the run has it checked earlier
        try:
            if row["outcome"]:
                await self._finisher.publish(run, request, row["outcome"], row["reason"], row["pending_events"])
            elif await self._finisher.end_if_done(run):
                next_check = 0.0
            elif reason := await self._why_abandoned(row, age):
                await self._finisher.fail(run, reason)
                next_check = 0.0
            elif not row["planned"]:
                await self._planner.plan(run, request, row["partition"])
        except TaskError as error:
            if age < _PATIENCE_SECONDS:
                await self._pool.execute(_CHECK_LATER, *run, timedelta(seconds=random.uniform(0.2, 1)))  # noqa: S311
                return
            log.info("a run can't be run", project=run[0], run=run[1], reason=str(error))
            await self._finisher.fail(run, str(error))
            return
        except NotReadyError as missing:
            next_check = min(max(0.1, 0.2 * age), _MAX_WAIT_SECONDS)
            log.info("a run waits", project=run[0], run=run[1], for_=str(missing), again_in=round(next_check, 1))
        except Exception as error:
            log.warning(
                "a run is looked at again", project=run[0], run=run[1], error=f"{type(error).__name__}: {error}"[:300]
            )
        await self._pool.execute(_CHECK_LATER, *run, timedelta(seconds=next_check))
        if not next_check:
            self.wake_up.set()

    async def _why_abandoned(self, row: Any, age: float) -> str:
        """Why a run has to end whose providers no worker has offered for the time of grace; empty when it goes on.

        The grace counts from this worker's own start too: after an outage of all, some may come back before others.
        """
        others = {row["provider"], *row["providers"]} - self._offered
        if not others or row["state"] != EXPERIMENT_STATE_RUNNING:
            return ""
        if min(age, monotonic() - self._started_at) < self._grace:
            return ""
        providers = await self._pool.fetchrow(_FIND_WITHDRAWN_PROVIDERS, sorted(others))
        assert providers is not None
        if not providers["withdrawn"]:
            return ""
        name, offered = providers["withdrawn"][0], ", ".join(providers["offered"]) or "none"
        field = "task_json.provider" if name == row["provider"] else "evaluators_json"
        return f"{field}: no worker has offered the provider {name!r} for {self._grace:g} s; there are {offered}"
