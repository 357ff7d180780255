"""The planner: a run becomes jobs, one for each item and repetition, as soon as everything it needs can be read.

The read models may lag: what is missing is waited for until they have folded all that the log held when it was first
missed. What is missing then is not on its way, and the run fails.
"""

from pathlib import Path

import asyncpg
from aiokafka import AIOKafkaConsumer
from lodestream_evals.evaluators import EvaluatorSpecError, evaluators_of, run_evaluators_of
from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested

from services.write.evaluator.fold import NAME
from services.write.evaluator.jobs import Run, notify_workers
from services.write.evaluator.model_calls import ModelCalls
from services.write.evaluator.prompts import PromptVersions
from services.write.evaluator.tasks import Task, TaskError, missing_prompt, parse_specs, parse_task
from shared.event_log.reading import log_range, range_consumer
from shared.event_log.topics import EXPERIMENTS, PROMPTS
from shared.projection.progress import read_progress
from shared.rules.model_parameters import check_parameters
from shared.runtime.failpoints import failpoint
from shared.runtime.lru_cache import LruCache
from shared.runtime.refusal import InvalidError
from shared.runtime.settings import KafkaSettings
from shared.storage.named_queries import load_queries

_RUNS = load_queries(Path(__file__).with_name("runs.sql"))
_LOCK_UNPLANNED_RUN, _MARK_PLANNED = _RUNS["lock_unplanned_run"], _RUNS["mark_planned"]
_PLAN_JOBS = load_queries(Path(__file__).with_name("jobs.sql"))["plan_jobs"]
_READ_DATASET_VERSION = load_queries(Path(__file__).with_name("read_models.sql"))["read_dataset_version"]
_MAX_LOG_ENDS = 1024


class NotReadyError(Exception):
    """Something may be on its way; the message says what."""


class LogEnds:
    """Remembers where topics ended when somebody first waited for them, and tells whether a projection has come as far.

    What is missing from a read model by then is not on its way.
    """

    def __init__(self, kafka: KafkaSettings, pool: asyncpg.Pool) -> None:
        self._kafka, self._pool = kafka, pool
        self._consumer: AIOKafkaConsumer | None = None
        self._ends: LruCache[tuple[str, ...], dict[int, int]] = LruCache(_MAX_LOG_ENDS)

    async def aclose(self) -> None:
        """Disconnect from Kafka."""
        if self._consumer is not None:
            await self._consumer.stop()
            self._consumer = None

    async def has_passed(self, projection: str, topic: str, *waiter: str, partition: int | None = None) -> bool:
        """Whether a projection has folded all that the topic, or one partition of it, held at the waiter's first call.

        Raises KafkaError.
        """
        ends = await self._first_ends(topic, (topic, *waiter))
        progress = await read_progress(self._pool, projection, topic)
        return all(
            (progress[number].next_offset if number in progress else 0) >= end
            for number, end in ends.items()
            if partition in (None, number)
        )

    async def _first_ends(self, topic: str, key: tuple[str, ...]) -> dict[int, int]:
        ends = self._ends.get(key)
        if ends is None:
            if self._consumer is None:
                consumer = range_consumer(self._kafka, "lodestream-evaluator-ends")
                try:
                    await consumer.start()
                except BaseException:
                    await consumer.stop()
                    raise
                self._consumer = consumer
            _, ends = await log_range(self._consumer, topic)
            self._ends[key] = ends
        return ends


class Planner:
    """Plans runs."""

    def __init__(self, pool: asyncpg.Pool, log_ends: LogEnds, prompts: PromptVersions, calls: ModelCalls) -> None:
        self._pool, self._log_ends, self._prompts, self._calls = pool, log_ends, prompts, calls

    async def plan(self, run: Run, request: ExperimentRequested, partition: int) -> None:
        """Put the jobs of a run into the queue, all or none. The log has the run's events in `partition`.

        Raises NotReadyError, and TaskError when the run can't be run.
        """
        task = parse_task(request)
        self._check_settings(task)
        _check_evaluators(request)
        await self._check_prompt(run, task)
        await self._check_dataset(run, request)
        if not await self._log_ends.has_passed(NAME, EXPERIMENTS, *run, partition=partition):
            raise NotReadyError("results that the log may have of it")
        async with self._pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval(_LOCK_UNPLANNED_RUN, *run):
                return  # another worker has planned it, or it has ended
            await connection.execute(
                _PLAN_JOBS, *run, request.dataset_id, request.dataset_version, max(1, request.repetitions),
                list(request.splits),
            )  # fmt: skip
            await connection.execute(_MARK_PLANNED, *run)
            await notify_workers(connection)
            await failpoint("evaluator.planned")

    def _check_settings(self, task: Task) -> None:
        """Check the model's settings if this worker offers the provider; each call is checked again.

        Raises TaskError.
        """
        if kind := self._calls.provider_kinds.get(task.provider):
            try:
                check_parameters(task.settings, kind, "task_json.settings")
            except InvalidError as error:
                raise TaskError(str(error)) from None

    async def _check_prompt(self, run: Run, task: Task) -> None:
        if await self._prompts.find(run[0], task.prompt_name, task.prompt_version) is None:
            if await self._log_ends.has_passed("prompts", PROMPTS, *run):
                if await self._prompts.find(run[0], task.prompt_name, task.prompt_version) is None:
                    raise TaskError(missing_prompt(task))
                return
            raise NotReadyError("its prompt")

    async def _check_dataset(self, run: Run, request: ExperimentRequested) -> None:
        if await self._dataset_version(run, request) < request.dataset_version:
            if await self._log_ends.has_passed("experiments", EXPERIMENTS, *run, "dataset"):
                if (version := await self._dataset_version(run, request)) < request.dataset_version:
                    there = f"it is at {version}" if version else "there is no such dataset"
                    raise TaskError(f"dataset_version: the dataset has no version {request.dataset_version}; {there}")
                return
            raise NotReadyError("its dataset")

    async def _dataset_version(self, run: Run, request: ExperimentRequested) -> int:
        return int(await self._pool.fetchval(_READ_DATASET_VERSION, run[0], request.dataset_id) or 0)


def _check_evaluators(request: ExperimentRequested) -> None:
    """Raises TaskError."""
    for field, make in (("evaluators_json", evaluators_of), ("run_evaluators_json", run_evaluators_of)):
        try:
            make(parse_specs(getattr(request, field), field))
        except EvaluatorSpecError as error:
            raise TaskError(f"{field}: {error}") from None
