"""The finisher ends runs: when all items have results, when the budget is spent, or when the run can't be run.

How a run ends is decided once, in Postgres, with what the run-level evaluators say; then whichever worker comes first
publishes it, with the same ids.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from time import time_ns
from typing import Any

import asyncpg
from lodestream_evals.evaluation import Evaluation
from lodestream_evals.evaluators import Case, Judged, run_evaluators_of
from lodestream_evals.items import value_in
from lodestream_proto.v1.experiment_event_pb2 import (
    EXPERIMENT_OUTCOME_BUDGET_SPENT,
    EXPERIMENT_OUTCOME_COMPLETED,
    EXPERIMENT_OUTCOME_FAILED,
    ExperimentFinished,
    ExperimentItemFinished,
    ExperimentOutcome,
    ExperimentRequested,
    ItemEvaluation,
)
from lodestream_proto.v1.score_event_pb2 import ScoreTarget

from services.write.evaluator import metrics
from services.write.evaluator.evaluator_runner import evaluate_run
from services.write.evaluator.items import EvaluatorOutcome
from services.write.evaluator.jobs import Run
from services.write.evaluator.planner import LogEnds, NotReadyError
from services.write.evaluator.result_events import item_evaluation, log_record, run_event, score_events
from services.write.evaluator.tasks import parse_specs
from shared.event_log.append import Appender
from shared.event_log.topics import EXPERIMENTS
from shared.rules.experiments import check_end
from shared.runtime.failpoints import failpoint
from shared.runtime.refusal import InvalidError
from shared.storage.named_queries import load_queries

_RUNS = load_queries(Path(__file__).with_name("runs.sql"))
_LOCK_OPEN_RUN, _SET_OUTCOME, _DECIDE_END = _RUNS["lock_open_run"], _RUNS["set_outcome"], _RUNS["decide_end"]
_JOBS = load_queries(Path(__file__).with_name("jobs.sql"))
_RUN_PROGRESS, _COUNT_MISSING_RESULTS = _JOBS["run_progress"], _JOBS["count_missing_results"]
_READ_RESULTS = load_queries(Path(__file__).with_name("read_models.sql"))["read_results"]
_APPEND_SECONDS = 10.0
_PICODOLLARS_PER_DOLLAR = 10**12


class Finisher:
    """Ends runs."""

    def __init__(self, pool: asyncpg.Pool, log_ends: LogEnds, appender: Appender, *, evaluation_seconds: float) -> None:
        """`evaluation_seconds` bounds each run-level evaluator."""
        self._pool, self._log_ends, self._appender, self._seconds = pool, log_ends, appender, evaluation_seconds

    async def fail(self, run: Run, reason: str) -> None:
        """Have a run end as failed: it can't be run."""
        await self._pool.execute(_SET_OUTCOME, *run, EXPERIMENT_OUTCOME_FAILED, reason)

    async def end_if_done(self, run: Run) -> int:
        """Have a run end that has come to its end; returns its `ExperimentOutcome`, or 0 when it goes on."""
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(_LOCK_OPEN_RUN, *run)
            if row is None:
                return 0
            progress = await connection.fetchrow(_RUN_PROGRESS, *run)
            assert progress is not None
            outcome, reason = run_outcome(row, queued=progress["queued"], in_progress=progress["in_progress"])
            if outcome:
                await connection.execute(_SET_OUTCOME, *run, outcome, reason)
        return outcome

    async def publish(
        self, run: Run, request: ExperimentRequested, outcome: int, reason: str, decided: Sequence[bytes] | None
    ) -> None:
        """Append how a run ended: the events that were `decided`, or, when there are none yet, are decided now.

        Raises LogUnavailableError, and NotReadyError while the read model does not have all results.
        """
        events = decided or await self._decide(run, request, outcome, reason)
        if events:
            if events[:-1]:
                await self._appender.append([log_record(event) for event in events[:-1]], within=_APPEND_SECONDS)
            await self._appender.append([log_record(events[-1])], within=_APPEND_SECONDS)
            await failpoint("evaluator.ended")

    async def _decide(
        self, run: Run, request: ExperimentRequested, outcome: int, reason: str
    ) -> Sequence[bytes] | None:
        evaluators = [] if outcome == EXPERIMENT_OUTCOME_FAILED else await self._evaluate(run, request)
        events = end_events(run, evaluators, outcome, reason, time_ns())
        decided: list[bytes] | None = await self._pool.fetchval(_DECIDE_END, *run, events)
        await failpoint("evaluator.end_decided")
        if decided == events:
            name = ExperimentOutcome.Name(outcome).removeprefix("EXPERIMENT_OUTCOME_")  # type: ignore[arg-type]
            metrics.RUNS.labels(name.lower()).inc()
        return decided

    async def _evaluate(self, run: Run, request: ExperimentRequested) -> list[EvaluatorOutcome]:
        evaluators = run_evaluators_of(parse_specs(request.run_evaluators_json, "run_evaluators_json"))
        if not evaluators:
            return []
        if await self._pool.fetchval(_COUNT_MISSING_RESULTS, *run) and not await self._log_ends.has_passed(
            "experiments", EXPERIMENTS, *run, "results"
        ):
            raise NotReadyError("results in the read model")
        rows = await self._pool.fetch(_READ_RESULTS, *run, request.dataset_id, request.dataset_version)
        items = [evaluated_item(row) for row in rows]
        return [await evaluate_run(evaluator, items, self._seconds) for evaluator in evaluators]


def run_outcome(row: Any, *, queued: bool, in_progress: bool) -> tuple[int, str]:
    """How a run ends now, and why; 0 when it goes on, as it does while jobs of it are running or decided.

    `row` tells whether the run is planned, out of money and out of time; `queued` whether it has jobs that are.
    """
    if in_progress:
        return 0, ""
    if row["planned"] and not queued:
        return EXPERIMENT_OUTCOME_COMPLETED, ""
    if row["out_of_money"]:
        return EXPERIMENT_OUTCOME_BUDGET_SPENT, "budget.max_cost_usd is spent"
    if row["out_of_time"]:
        return EXPERIMENT_OUTCOME_BUDGET_SPENT, "budget.max_seconds are over"
    return 0, ""


def end_events(run: Run, evaluators: Sequence[EvaluatorOutcome], outcome: int, reason: str, at_ns: int) -> list[bytes]:
    """The events that end a run: the scores of its run-level evaluators, and the end last. Ids follow from the run."""
    finished = ExperimentFinished(
        run_id=run[1],
        outcome=outcome,  # type: ignore[arg-type]
        reason=reason,
        evaluations=[item_evaluation(each, run) for each in evaluators],
    )
    try:
        check_end(finished, "the end")
    except InvalidError:  # an end without metadata is better than none
        for each in finished.evaluations:
            each.ClearField("metadata_json")
    scores = score_events(run, run, ScoreTarget(run_id=run[1]), evaluators, at_ns)
    return [*scores, run_event(run, ["finished"], at_ns, experiment_finished=finished)]


def evaluated_item(row: Any) -> Judged:
    """An item's result as run-level evaluators see it, from a row of the read model."""
    result = ExperimentItemFinished.FromString(row["result"])
    usage = result.usage
    took_ns = result.ended_at.ToNanoseconds() - result.started_at.ToNanoseconds()
    return Judged(
        case=Case(
            input=_json(row["input"] or result.input_json),
            output=_json(result.output_json),
            expected_output=_json(row["expected_output"] or result.expected_output_json),
            metadata=_json(row["metadata"] or result.metadata_json) or {},
            error=result.error,
            latency_seconds=took_ns / 1e9 if result.HasField("ended_at") and result.HasField("started_at") else None,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost_usd=(usage.cost_picodollars / _PICODOLLARS_PER_DOLLAR if usage.HasField("cost_picodollars") else None),
        ),
        evaluations=[evaluation for each in result.evaluations if (evaluation := _evaluation(each))],
        errors={each.name: each.error for each in result.evaluations if each.WhichOneof("value") == "error"},
        item_id=result.item_id,
        repetition=result.repetition,
    )


def _evaluation(stored: ItemEvaluation) -> Evaluation | None:
    if (stored_value := value_in(stored)) is None:
        return None
    value, data_type = stored_value
    return Evaluation(name=stored.name, value=value, data_type=data_type)


def _json(text: str) -> Any:
    return json.loads(text) if text else None
