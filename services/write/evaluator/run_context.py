"""The context of runs: all that their items need, and the items themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from lodestream_evals.evaluators import Evaluator, EvaluatorSpecError, evaluators_of
from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested

from services.write.evaluator.items import RunItem
from services.write.evaluator.jobs import ClaimedJob, JobKey, Run
from services.write.evaluator.model_calls import ModelCalls
from services.write.evaluator.prompts import Prompt, PromptVersions
from services.write.evaluator.tasks import Task, TaskError, missing_prompt, parse_specs, parse_task
from shared.runtime.lru_cache import LruCache
from shared.storage.named_queries import load_queries

_READ_RUN = load_queries(Path(__file__).with_name("runs.sql"))["read_run"]
_READ_MODELS = load_queries(Path(__file__).with_name("read_models.sql"))
_READ_DATASET_NAME, _READ_ITEMS = _READ_MODELS["read_dataset_name"], _READ_MODELS["read_items"]
_MAX_CACHED = 64


class RunUnavailableError(Exception):
    """This worker can't run it now; the message says why."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """A run with all that its items need."""

    run: Run
    request: ExperimentRequested
    dataset_name: str
    task: Task
    prompt: Prompt
    evaluators: Sequence[Evaluator]


class RunContexts:
    """Makes the contexts of runs, and keeps those of the last runs."""

    def __init__(self, pool: asyncpg.Pool, prompts: PromptVersions, calls: ModelCalls) -> None:
        self._pool, self._prompts, self._calls = pool, prompts, calls
        self._cached: LruCache[Run, RunContext] = LruCache(_MAX_CACHED)

    async def get(self, run: Run) -> RunContext:
        """Return the context of a run.

        Raises RunUnavailableError.
        """
        if cached := self._cached.get(run):
            return cached
        body = await self._pool.fetchval(_READ_RUN, *run)
        if body is None:
            raise RunUnavailableError("the run is not there")
        request = ExperimentRequested.FromString(body)
        dataset_name = await self._pool.fetchval(_READ_DATASET_NAME, run[0], request.dataset_id)
        try:
            context = await self._make(run, request, dataset_name or request.dataset_id)
        except TaskError as error:
            raise RunUnavailableError(str(error)) from None
        self._cached[run] = context
        return context

    async def items(self, jobs: Sequence[ClaimedJob], contexts: Mapping[Run, RunContext]) -> dict[JobKey, RunItem]:
        """Return the items of jobs; those that the read model does not have at present are left out."""
        keys = {
            (*job.key.run, job.key.item_id, context.request.dataset_id, context.request.dataset_version)
            for job in jobs
            if (context := contexts.get(job.key.run))
        }
        if not keys:
            return {}
        columns = [list(column) for column in zip(*sorted(keys), strict=True)]
        rows = await self._pool.fetch(_READ_ITEMS, *columns)
        by_key = {(row["project_id"], row["run_id"], row["item_id"]): row for row in rows}
        return {
            job.key: RunItem(job.key.item_id, job.key.repetition, row["input"], row["expected_output"], row["metadata"])
            for job in jobs
            if (row := by_key.get(job.key[:3]))
        }

    async def _make(self, run: Run, request: ExperimentRequested, dataset_name: str) -> RunContext:
        task = parse_task(request)
        if not self._calls.has_provider(task.provider):
            offered = ", ".join(self._calls.provider_names) or "none"
            raise TaskError(f"task_json.provider: there is no provider {task.provider!r}; there are {offered}")
        prompt = await self._prompts.find(run[0], task.prompt_name, task.prompt_version)
        if prompt is None:
            raise RunUnavailableError(missing_prompt(task))
        try:
            evaluators = evaluators_of(parse_specs(request.evaluators_json, "evaluators_json"))
        except EvaluatorSpecError as error:
            raise TaskError(f"evaluators_json: {error}") from None
        return RunContext(run, request, dataset_name, task, prompt, tuple(evaluators))
