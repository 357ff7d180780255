"""Runs with all that their items need, and the items; what was opened is remembered."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import asyncpg
from lodestream.evaluators import EvaluatorSpecError, evaluators_of
from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested

from services.write.evaluator.compiling import Prompt
from services.write.evaluator.fold import Run
from services.write.evaluator.items import Item, Opened
from services.write.evaluator.jobs import Claimed, Key
from services.write.evaluator.model_calls import Calls
from services.write.evaluator.prompts import Prompts
from services.write.evaluator.tasks import Task, TaskError, specs_of, task_of
from shared.read_model.postgres import load_sql

_SQL = Path(__file__).parent / "sql"
_READ_RUN = load_sql(_SQL / "read_run.sql")
_READ_DATASET_NAME = load_sql(_SQL / "read_dataset_name.sql")
_READ_ITEMS = load_sql(_SQL / "read_items.sql")
_MOST = 64


class UnopenedError(Exception):
    """This worker can't run it now; the message says why."""


class Runs:
    """Opens runs."""

    def __init__(self, pool: asyncpg.Pool, prompts: Prompts, calls: Calls) -> None:
        self._pool, self._prompts, self._calls = pool, prompts, calls
        self._opened: OrderedDict[Run, Opened] = OrderedDict()

    async def open(self, run: Run) -> Opened:
        """The run.

        Raises UnopenedError.
        """
        if known := self._opened.get(run):
            return known
        body = await self._pool.fetchval(_READ_RUN, *run)
        if body is None:
            raise UnopenedError("the run is not there")
        request = ExperimentRequested.FromString(body)
        name = await self._pool.fetchval(_READ_DATASET_NAME, run[0], request.dataset_id)
        try:
            opened = await self._open(run, request, name or request.dataset_id)
        except TaskError as error:
            raise UnopenedError(str(error)) from None
        self._opened[run] = opened
        while len(self._opened) > _MOST:
            self._opened.popitem(last=False)
        return opened

    async def items_of(self, claimed: Sequence[Claimed], opened: Mapping[Run, Opened]) -> dict[Key, Item]:
        """The items of jobs; those that the read model does not have at present are left out."""
        wanted = {
            (*each.key.run, each.key.item_id, its.request.dataset_id, its.request.dataset_version)
            for each in claimed
            if (its := opened.get(each.key.run))
        }
        if not wanted:
            return {}
        columns = [list(column) for column in zip(*sorted(wanted), strict=True)]
        rows = await self._pool.fetch(_READ_ITEMS, *columns)
        found = {(row["project_id"], row["run_id"], row["item_id"]): row for row in rows}
        return {
            each.key: Item(each.key.item_id, each.key.repetition, row["input"], row["expected_output"], row["metadata"])
            for each in claimed
            if (row := found.get(each.key[:3]))
        }

    async def _open(self, run: Run, request: ExperimentRequested, dataset_name: str) -> Opened:
        task = checked_task(request, self._calls)
        prompt: Prompt | None = await self._prompts.find(run[0], task.prompt_name, task.prompt_version)
        if prompt is None:
            raise UnopenedError(missing_prompt(task))
        try:
            evaluators = evaluators_of(specs_of(request.evaluators_json, "evaluators_json"))
        except EvaluatorSpecError as error:
            raise TaskError(f"evaluators_json: {error}") from None
        return Opened(run, request, dataset_name, task, prompt, tuple(evaluators))


def checked_task(request: ExperimentRequested, calls: Calls) -> Task:
    """The task, whose provider there is.

    Raises TaskError.
    """
    task = task_of(request)
    if not calls.knows(task.provider):
        raise TaskError(
            f"task_json.provider: there is no provider {task.provider!r}; there are {', '.join(calls.names) or 'none'}"
        )
    return task


def missing_prompt(task: Task) -> str:
    """Why a run without its prompt can't be run."""
    return f"task_json.prompt: there is no version {task.prompt_version} of the prompt {task.prompt_name!r}"
