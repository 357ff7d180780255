"""A run becomes jobs, one for each item and repetition, as soon as everything it needs can be had.

The read models may lag: what is missing is waited for, until they have folded all that the log held when the run was
first looked at. What is missing then is not on its way, and the run fails.
"""

from pathlib import Path

import asyncpg
from lodestream.evaluators import EvaluatorSpecError, evaluators_of, run_evaluators_of
from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested

from services.write.evaluator.fold import Run
from services.write.evaluator.folding.folding import NAME
from services.write.evaluator.folding.tables import wake
from services.write.evaluator.log_ends import LogEnds
from services.write.evaluator.model_calls import Calls
from services.write.evaluator.prompts import Prompts
from services.write.evaluator.run_context import missing_prompt
from services.write.evaluator.tasks import Task, TaskError, specs_of, task_of
from shared.event_log.topics import EXPERIMENTS, PROMPTS
from shared.read_model.model_parameters import check_parameters
from shared.read_model.postgres import load_sql
from shared.runtime.failpoints import failpoint
from shared.runtime.refusal import InvalidError

_SQL = Path(__file__).parent / "sql"
_READ_DATASET_VERSION = load_sql(_SQL / "read_dataset_version.sql")
_LOCK_UNPLANNED = load_sql(_SQL / "lock_unplanned.sql")
_PLAN = load_sql(_SQL / "plan.sql")
_PLANNED = load_sql(_SQL / "planned.sql")


class NotYetError(Exception):
    """Something may be on its way; the message says what."""


class Planner:
    """Plans runs."""

    def __init__(self, pool: asyncpg.Pool, ends: LogEnds, prompts: Prompts, calls: Calls) -> None:
        self._pool, self._ends, self._prompts, self._calls = pool, ends, prompts, calls

    async def plan(self, run: Run, request: ExperimentRequested, partition: int) -> None:
        """Put the jobs of a run into the queue, all or none.

        Raises NotYetError, and TaskError when the run can't be run.
        """
        task = task_of(request)
        self._check_settings(task)
        _check_evaluators(request)
        await self._await_prompt(run, task)
        await self._await_dataset(run, request)
        if not await self._ends.has_passed(NAME, EXPERIMENTS, *run, partition=partition):
            raise NotYetError("results that the log may have of it")
        async with self._pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval(_LOCK_UNPLANNED, *run):
                return  # somebody else has, or it has ended
            await connection.execute(
                _PLAN, *run, request.dataset_id, request.dataset_version, max(1, request.repetitions),
                list(request.splits),
            )  # fmt: skip
            await connection.execute(_PLANNED, *run)
            await wake(connection)
            await failpoint("evaluator.planned")

    def _check_settings(self, task: Task) -> None:
        """As far as this worker knows what the provider is; each call is checked again.

        Raises TaskError.
        """
        if kind := self._calls.kinds.get(task.provider):
            try:
                check_parameters(task.settings, kind, "task_json.settings")
            except InvalidError as error:
                raise TaskError(str(error)) from None

    async def _await_prompt(self, run: Run, task: Task) -> None:
        if await self._prompts.find(run[0], task.prompt_name, task.prompt_version) is None:
            if await self._ends.has_passed("prompts", PROMPTS, *run):
                if await self._prompts.find(run[0], task.prompt_name, task.prompt_version) is None:
                    raise TaskError(missing_prompt(task))
                return
            raise NotYetError("its prompt")

    async def _await_dataset(self, run: Run, request: ExperimentRequested) -> None:
        if await self._dataset_version(run, request) < request.dataset_version:
            if await self._ends.has_passed("experiments", EXPERIMENTS, *run, "dataset"):
                if (version := await self._dataset_version(run, request)) < request.dataset_version:
                    there = f"it is at {version}" if version else "there is no such dataset"
                    raise TaskError(f"dataset_version: the dataset has no version {request.dataset_version}; {there}")
                return
            raise NotYetError("its dataset")

    async def _dataset_version(self, run: Run, request: ExperimentRequested) -> int:
        return int(await self._pool.fetchval(_READ_DATASET_VERSION, run[0], request.dataset_id) or 0)


def _check_evaluators(request: ExperimentRequested) -> None:
    """Raises TaskError."""
    for field, make in (("evaluators_json", evaluators_of), ("run_evaluators_json", run_evaluators_of)):
        try:
            make(specs_of(getattr(request, field), field))
        except EvaluatorSpecError as error:
            raise TaskError(f"{field}: {error}") from None
