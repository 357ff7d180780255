"""A run from its beginning to its result."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lodestream._diagnostics import log, tell
from lodestream._experiments.calling import in_thread
from lodestream._experiments.errors import ExperimentStoppedError, RegressionError
from lodestream._experiments.evaluators import each_name_once, said_by
from lodestream._experiments.judgement import Judgement
from lodestream._experiments.messages import judgement_from, result_from
from lodestream._experiments.orders import Orders
from lodestream._experiments.plan import ExperimentOptions, Plan, plan_of
from lodestream._experiments.progress import Progress, progress_for
from lodestream._experiments.recording import Records
from lodestream._experiments.rows import Row
from lodestream._experiments.runs import Run, opened
from lodestream._experiments.working import run_item
from lodestream._results import ExperimentResult, ItemResult

if TYPE_CHECKING:
    from lodestream._client import Lodestream

Work = tuple[Row, int]
"""An item, and which repetition of it."""
Results = dict[tuple[str, int], ItemResult]
_ROOM_SECONDS, _LOOK_SECONDS = 30.0, 0.02
_DELIVERY_SECONDS = 10.0


class Running:
    """An experiment that is to be run once."""

    def __init__(self, client: "Lodestream", name: str, data: Any, task: Any, options: ExperimentOptions) -> None:
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
        run = await in_thread(partial(opened, client, plan, self._data))
        rows = {row.id: row for row in run.rows}
        results: Results = {
            key: result_from(item.result, rows[key[0]]) for key, item in run.done.items() if key[0] in rows
        }
        records = Records(client, plan, run.id, from_dataset=bool(run.request.dataset_id))
        if run.complete is not None:
            log.warning("run %r is complete; it is given as it is", plan.run_name)
            judgements = [judgement_from(each) for each in run.complete.run_evaluations]
            return self._together(run, results, judgements)
        if results:
            log.warning("run %r goes on: %d items were done before", plan.run_name, len(results))
        missing = [work for work in _all_work(plan, run) if (work[0].id, work[1]) not in results]
        orders, total = Orders(run), len(run.rows) * plan.repetitions
        with progress_for(plan, total=total, done=len(results)) as progress:
            await self._work_off(missing, results, records, progress, orders)
        if len(results) < total:
            await in_thread(partial(client.flush, _DELIVERY_SECONDS))
            if orders.ended:
                told = f"run {plan.run_name!r} {orders.ended}: {len(results)} of {total} items were done"
                raise ExperimentStoppedError(told, self._together(run, results, ()))
            log.warning("%s", _stopped_at(plan, len(results), total))
            raise KeyboardInterrupt
        judgements, regression = await self._judge_run(self._together(run, results, ()))
        judgements = list(records.ended(judgements))
        await in_thread(partial(client.flush, _DELIVERY_SECONDS))
        result = self._together(run, results, judgements)
        _tell_of_delivery(result)
        if regression is not None:
            regression.result = result
            raise regression
        return result

    async def _work_off(
        self, missing: Sequence[Work], results: Results, records: Records, progress: Progress, orders: Orders
    ) -> None:
        """So many at a time as may be."""
        waiting = iter(missing)

        async def work() -> None:
            for row, repetition in waiting:
                await orders.until_going(lambda: self._stopped)
                await _until_there_is_room(records)
                if self._stopped or orders.ended:
                    return
                result = await run_item(self._plan, records, row, repetition)
                results[row.id, repetition] = result
                progress.advance(result)

        async with orders, asyncio.TaskGroup() as group:
            for _ in range(min(self._plan.max_concurrency, len(missing))):
                group.create_task(work())

    async def _judge_run(self, result: ExperimentResult) -> tuple[list[Judgement], RegressionError | None]:
        """What is said of the run as a whole, and the first regression that was raised."""
        regressions: list[RegressionError] = []
        judgements: list[Judgement] = []
        known: Mapping[str, Any] = {
            "item_results": result.items,
            "results": result.items,
            "items": result.items,
            "run_id": result.run_id,
            "run_name": result.run_name,
            "name": result.name,
        }
        for judge in self._plan.run_judges:
            said = await said_by(judge, known, regressions)
            judgements += said
        return each_name_once(judgements), next(iter(regressions), None)

    def _together(self, run: Run, results: Results, judgements: Sequence[Judgement]) -> ExperimentResult:
        order = {row.id: number for number, row in enumerate(run.rows)}
        return ExperimentResult(
            name=self._plan.name,
            run_name=self._plan.run_name,
            run_id=run.id,
            items=sorted(results.values(), key=lambda item: (item.repetition, order[item.item_id])),
            run_judgements=judgements,
            recorded=run.recorded,
            receipt=self._client.receipt,
            run=run,
        )


def _all_work(plan: Plan, run: Run) -> Iterator[Work]:
    """Every item once, then every item again: what is stopped has whole repetitions."""
    return ((row, repetition) for repetition in range(plan.repetitions) for row in run.rows)


async def _until_there_is_room(records: Records) -> None:
    """Items that tell much wait for the disk."""
    end = asyncio.get_running_loop().time() + _ROOM_SECONDS
    while not records.has_room and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(_LOOK_SECONDS)


def _stopped_at(plan: Plan, done: int, total: int) -> str:
    told = f"run {plan.run_name!r} is stopped: {done} of {total} items are done and kept"
    return f"{told}; with run_name={plan.run_name!r} it goes on"


def _tell_of_delivery(result: ExperimentResult) -> None:
    receipt = result.receipt
    if result.recorded and receipt.pending:
        safe = "are on disk, and delivered as soon as it can be" if receipt.durable else "are in memory only"
        tell(f"run {result.run_id}", f"run {result.run_name!r}: {receipt.pending} records {safe}: {receipt.problem}")
