"""An experiment from its beginning to its result."""

import asyncio
import contextvars
import datetime as dt
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, TypeVar

from lodestream_evals.items import run_evaluators, run_task

from lodestream._diagnostics import log, warn_once
from lodestream._experiments.calling import call, in_thread
from lodestream._experiments.errors import ExperimentStoppedError, RegressionError
from lodestream._experiments.evaluators import EvaluatorInputs, PlannedEvaluator, first_of_each_name, outcomes_of
from lodestream._experiments.messages import outcome_from, result_from
from lodestream._experiments.plan import Plan, plan_of
from lodestream._experiments.progress import Progress, progress_for
from lodestream._experiments.recording import ItemTrace, RunRecorder
from lodestream._experiments.reporting import RunReporter
from lodestream._experiments.rows import Row
from lodestream._experiments.runs import RemoteRunState, Run, open_run
from lodestream._experiments.session import Session
from lodestream._lifecycle import start_thread
from lodestream._results import EvaluatorOutcome, ExperimentOptions, ExperimentResult, ItemResult

# --- A loop of its own ------------------------------------------------------------------------------------------------
# Coroutines for callers that are none: in a thread with a loop of its own, whether the caller is in one or not.

T = TypeVar("T")
_SIGNAL_CHECK_SECONDS = 0.2


def run_apart(begin: Callable[[], Coroutine[Any, Any, T]], *, stop: Callable[[], None]) -> T:
    """The coroutine's result. The first Ctrl-C calls `stop` and waits on, the second leaves at once."""
    outcome: Future[T] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            result = context.run(asyncio.run, begin())
        except BaseException as error:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)

    start_thread(threading.Thread(target=run, name="lodestream-experiment", daemon=True))
    try:
        return _await(outcome)
    except KeyboardInterrupt:
        if outcome.done():
            raise
        stop()
        log.warning("stopping: no item is begun any more, those that run come to their end; Ctrl-C again leaves them")
    return _await(outcome)


def _await(outcome: Future[T]) -> T:
    """Wait for the result in short waits, each of which lets Python run the handlers of signals.

    A signal that another thread receives, or that arrives just before the main thread sleeps on a lock, does not wake
    the main thread: a wait without a limit would then outlast a Ctrl-C (docs.python.org/3/library/signal.html).
    """
    while not wait((outcome,), _SIGNAL_CHECK_SECONDS).done:
        pass
    return outcome.result()


# --- One item ---------------------------------------------------------------------------------------------------------
# One item: the task, the evaluators, and what is told of both.

_MAX_ERROR = 10_000
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


async def run_item(plan: Plan, records: RunRecorder, row: Row, repetition: int) -> ItemResult:
    """What came of it, recorded. Only being cancelled is raised, and then nothing is recorded of it."""
    with records.item(row, repetition) as trace:
        task = await run_task(lambda _: _call_task(plan, records, trace, row.fresh(), repetition), _explain)
        if task.error:
            trace.root.update(level="ERROR", status_message=task.error)
        latency = task.duration_ns / 1e9
        inputs = _inputs(row.fresh(), repetition, trace, output=task.output, error=task.error, latency=latency)
        judgements = await _evaluations(plan, records, inputs)
        if not task.error:
            trace.root.update(output=task.output)
    result = ItemResult(
        item=row.given,
        item_id=row.id,
        repetition=repetition,
        input=row.input,
        expected_output=row.expected_output,
        metadata=row.metadata,
        output=task.output,
        error=task.error,
        judgements=judgements,
        trace_id=trace.trace_id,
        started_at=_EPOCH + dt.timedelta(microseconds=task.started_ns // 1_000),
        latency=latency,
        input_tokens=trace.usage.input_tokens,
        output_tokens=trace.usage.output_tokens,
        cost_usd=trace.usage.cost_usd,
    )
    return records.finished(result)


def _explain(failure: Exception) -> str:
    return f"{type(failure).__name__}: {failure}"[:_MAX_ERROR]


async def _call_task(plan: Plan, records: RunRecorder, trace: ItemTrace, row: Row, repetition: int) -> Any:
    """Call the task, observed, and return its output."""
    inputs = {
        "item": row.given,
        "input": row.input,
        "expected_output": row.expected_output,
        "metadata": row.metadata,
        "item_id": row.id,
        "repetition": repetition,
        "run_name": plan.run_name,
    }
    with records.task(trace, row) as observation:
        output = await call(plan.task, inputs, timeout=plan.item_timeout)
        observation.update(output=output)
    return output


async def _evaluations(plan: Plan, records: RunRecorder, inputs: EvaluatorInputs) -> Sequence[EvaluatorOutcome]:
    outcomes = await run_evaluators(
        plan.evaluators, lambda evaluator: _evaluated(records, evaluator, inputs), task_failed=bool(inputs["error"])
    )
    judgements = first_of_each_name([judgement for of_one in outcomes for judgement in of_one])
    if plan.composite is None or inputs["error"]:
        return judgements
    evaluations = [each.evaluation for each in judgements if each.evaluation is not None]
    together = await _evaluated(records, plan.composite, {**inputs, "evaluations": evaluations})
    return first_of_each_name([*judgements, *together])


async def _evaluated(
    records: RunRecorder, evaluator: PlannedEvaluator, inputs: EvaluatorInputs
) -> list[EvaluatorOutcome]:
    if not evaluator.observed:
        return await outcomes_of(evaluator, inputs)
    observed_inputs = {"output": inputs["output"], "expected_output": inputs["expected_output"]}
    with records.observed(evaluator.name, "evaluator", input=observed_inputs) as observation:
        outcomes = await outcomes_of(evaluator, inputs)
        if failed := next((each.error for each in outcomes if each.error), ""):
            observation.update(level="ERROR", status_message=failed)
        observation.update(
            output={each.name: each.evaluation.value for each in outcomes if each.evaluation is not None}
        )
    return outcomes


def _inputs(row: Row, repetition: int, trace: ItemTrace, *, output: Any, error: str, latency: float) -> EvaluatorInputs:
    """What evaluators can ask for, and what built-in ones are given."""
    return {
        "input": row.input,
        "output": output,
        "expected_output": row.expected_output,
        "expected": row.expected_output,
        "reference": row.expected_output,
        "metadata": row.metadata,
        "item": row.given,
        "example": row.given,
        "item_id": row.id,
        "trace_id": trace.trace_id,
        "latency": latency,
        "latency_seconds": latency,
        "repetition": repetition,
        "error": error,
        "input_tokens": trace.usage.input_tokens,
        "output_tokens": trace.usage.output_tokens,
        "cost_usd": trace.usage.cost_usd,
    }


# --- The run ----------------------------------------------------------------------------------------------------------
# A run from its beginning to its result.

Work = tuple[Row, int]
"""An item, and which repetition of it."""
Results = dict[tuple[str, int], ItemResult]
_ROOM_SECONDS, _LOOK_SECONDS = 30.0, 0.02
_DELIVERY_SECONDS = 10.0


class ExperimentRunner:
    """An experiment that is to be run once."""

    def __init__(self, client: Session, name: str, data: Any, task: Any, options: ExperimentOptions) -> None:
        """Raises ExperimentRefusedError for what makes no sense."""
        self._client, self._data = client, data
        self._plan = plan_of(client, name, task, options)
        self._stopped = False

    def stop(self) -> None:
        """Begin no item any more; from any thread."""
        self._stopped = True

    async def result(self) -> ExperimentResult:
        """Run it.

        Raises ExperimentError, DatasetError, RegressionError; KeyboardInterrupt when it was stopped.
        """
        plan, client = self._plan, self._client
        run = await in_thread(partial(open_run, client, plan, self._data))
        rows = {row.id: row for row in run.rows}
        results: Results = {
            key: result_from(item.result, rows[key[0]]) for key, item in run.done.items() if key[0] in rows
        }
        records = RunRecorder(client, plan, run.id, from_dataset=bool(run.request.dataset_id))
        if run.complete is not None:
            log.warning("run %r is complete; it is given as it is", plan.run_name)
            judgements = [outcome_from(each) for each in run.complete.run_evaluations]
            return self._together(run, results, judgements)
        if results:
            log.warning("run %r goes on: %d items were done before", plan.run_name, len(results))
        missing = [work for work in _all_work(plan, run) if (work[0].id, work[1]) not in results]
        remote, total = RemoteRunState(run), len(run.rows) * plan.repetitions
        with progress_for(plan, total=total, done=len(results)) as progress:
            await self._work_off(missing, results, records, progress, remote)
        if len(results) < total:
            await in_thread(partial(client.flush, _DELIVERY_SECONDS))
            if remote.ended:
                message = f"run {plan.run_name!r} {remote.ended}: {len(results)} of {total} items were done"
                raise ExperimentStoppedError(message, self._together(run, results, ()))
            log.warning("%s", _stopped_at(plan, len(results), total))
            raise KeyboardInterrupt
        judgements, regression = await self._evaluate_run(self._together(run, results, ()))
        judgements = list(records.ended(judgements))
        await in_thread(partial(client.flush, _DELIVERY_SECONDS))
        result = self._together(run, results, judgements)
        _warn_of_delivery(result)
        if regression is not None:
            regression.result = result
            raise regression
        return result

    async def _work_off(
        self,
        missing: Sequence[Work],
        results: Results,
        records: RunRecorder,
        progress: Progress,
        remote: RemoteRunState,
    ) -> None:
        """So many at a time as may be."""
        waiting = iter(missing)

        async def work() -> None:
            for row, repetition in waiting:
                await remote.wait_while_paused(lambda: self._stopped)
                await _until_there_is_room(records)
                if self._stopped or remote.ended:
                    return
                result = await run_item(self._plan, records, row, repetition)
                results[row.id, repetition] = result
                progress.advance(result)

        async with remote, asyncio.TaskGroup() as group:
            for _ in range(min(self._plan.max_concurrency, len(missing))):
                group.create_task(work())

    async def _evaluate_run(self, result: ExperimentResult) -> tuple[list[EvaluatorOutcome], RegressionError | None]:
        """What is said of the run as a whole, and the first regression that was raised."""
        regressions: list[RegressionError] = []
        judgements: list[EvaluatorOutcome] = []
        inputs: Mapping[str, Any] = {
            "item_results": result.items,
            "results": result.items,
            "items": result.items,
            "run_id": result.run_id,
            "run_name": result.run_name,
            "name": result.name,
        }
        for evaluator in self._plan.run_evaluators:
            outcomes = await outcomes_of(evaluator, inputs, regressions)
            judgements += outcomes
        return first_of_each_name(judgements), next(iter(regressions), None)

    def _together(self, run: Run, results: Results, judgements: Sequence[EvaluatorOutcome]) -> ExperimentResult:
        order = {row.id: number for number, row in enumerate(run.rows)}
        return ExperimentResult(
            name=self._plan.name,
            run_name=self._plan.run_name,
            run_id=run.id,
            items=sorted(results.values(), key=lambda item: (item.repetition, order[item.item_id])),
            run_judgements=judgements,
            recorded=run.recorded,
            receipt=self._client.receipt,
            _reporter=RunReporter(self._client, run),
        )


def _all_work(plan: Plan, run: Run) -> Iterator[Work]:
    """Every item once, then every item again: what is stopped has whole repetitions."""
    return ((row, repetition) for repetition in range(plan.repetitions) for row in run.rows)


async def _until_there_is_room(records: RunRecorder) -> None:
    """Items that tell much wait for the disk."""
    end = asyncio.get_running_loop().time() + _ROOM_SECONDS
    while not records.has_room and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(_LOOK_SECONDS)


def _stopped_at(plan: Plan, done: int, total: int) -> str:
    text = f"run {plan.run_name!r} is stopped: {done} of {total} items are done and kept"
    return f"{text}; with run_name={plan.run_name!r} it goes on"


def _warn_of_delivery(result: ExperimentResult) -> None:
    receipt = result.receipt
    if result.recorded and receipt.pending:
        safe = "are on disk, and delivered as soon as it can be" if receipt.durable else "are in memory only"
        warn_once(
            f"run {result.run_id}", f"run {result.run_name!r}: {receipt.pending} records {safe}: {receipt.problem}"
        )
