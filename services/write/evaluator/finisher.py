"""A run comes to its end: all of its items have results, or its budget is spent, or it can't be run.

How it ends is decided once, in Postgres, with what the run-level evaluators say; then it is told, by whoever comes
first, with the same ids.
"""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from time import time_ns
from typing import Any

import asyncpg
from lodestream import Evaluation
from lodestream.evaluators import Case, EvaluatorError, Judged, RunEvaluator, run_evaluators_of
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
from services.write.evaluator.fold import Run
from services.write.evaluator.items import Said
from services.write.evaluator.log_ends import LogEnds
from services.write.evaluator.planner import NotYetError
from services.write.evaluator.result_events import evaluation_of, record_of, run_event, scores_of
from services.write.evaluator.tasks import specs_of
from shared.event_log.append import Appender
from shared.event_log.topics import EXPERIMENTS
from shared.read_model.experiment_rules import check_end
from shared.read_model.postgres import load_sql
from shared.runtime.failpoints import failpoint
from shared.runtime.refusal import InvalidError

_SQL = Path(__file__).parent / "sql"
_LOCK_OPEN = load_sql(_SQL / "lock_open.sql")
_WHAT_IS_LEFT = load_sql(_SQL / "what_is_left.sql")
_END = load_sql(_SQL / "end.sql")
_DECIDE_END = load_sql(_SQL / "decide_end.sql")
_MISSING_RESULTS = load_sql(_SQL / "missing_results.sql")
_READ_RESULTS = load_sql(_SQL / "read_results.sql")
_WITHIN_SECONDS = 10.0
_DOLLAR = 10**12


class Finisher:
    """Ends runs."""

    def __init__(self, pool: asyncpg.Pool, ends: LogEnds, appender: Appender, *, evaluation_seconds: float) -> None:
        self._pool, self._ends, self._appender, self._seconds = pool, ends, appender, evaluation_seconds

    async def fail(self, run: Run, reason: str) -> None:
        """It can't be run."""
        await self._pool.execute(_END, *run, EXPERIMENT_OUTCOME_FAILED, reason)

    async def settle(self, run: Run) -> int:
        """The outcome of a run that has come to its end, if it has; 0: it has not."""
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(_LOCK_OPEN, *run)
            if row is None:
                return 0
            left = await connection.fetchrow(_WHAT_IS_LEFT, *run)
            assert left is not None
            outcome, reason = outcome_of(row, waiting=left["waiting"], under_way=left["under_way"])
            if outcome:
                await connection.execute(_END, *run, outcome, reason)
        return outcome

    async def tell(
        self, run: Run, request: ExperimentRequested, outcome: int, reason: str, told: Sequence[bytes] | None
    ) -> None:
        """Append how a run ended, as it was decided, or is now.

        Raises LogUnavailableError, and NotYetError while the read model does not have all results.
        """
        events = told or await self._decide(run, request, outcome, reason)
        if events:
            if events[:-1]:
                await self._appender.append([record_of(event) for event in events[:-1]], within=_WITHIN_SECONDS)
            await self._appender.append([record_of(events[-1])], within=_WITHIN_SECONDS)
            await failpoint("evaluator.ended")

    async def _decide(
        self, run: Run, request: ExperimentRequested, outcome: int, reason: str
    ) -> Sequence[bytes] | None:
        said = [] if outcome == EXPERIMENT_OUTCOME_FAILED else await self._judge(run, request)
        events = ending_of(run, said, outcome, reason, time_ns())
        decided: list[bytes] | None = await self._pool.fetchval(_DECIDE_END, *run, events)
        await failpoint("evaluator.end_decided")
        if decided == events:
            name = ExperimentOutcome.Name(outcome).removeprefix("EXPERIMENT_OUTCOME_")  # type: ignore[arg-type]
            metrics.RUNS.labels(name.lower()).inc()
        return decided

    async def _judge(self, run: Run, request: ExperimentRequested) -> list[Said]:
        """What the run-level evaluators say."""
        evaluators = run_evaluators_of(specs_of(request.run_evaluators_json, "run_evaluators_json"))
        if not evaluators:
            return []
        if await self._pool.fetchval(_MISSING_RESULTS, *run) and not await self._ends.has_passed(
            "experiments", EXPERIMENTS, *run, "results"
        ):
            raise NotYetError("results in the read model")
        rows = await self._pool.fetch(_READ_RESULTS, *run, request.dataset_id, request.dataset_version)
        results = [judged_of(row) for row in rows]
        return [await _said(each, results, self._seconds) for each in evaluators]


def outcome_of(row: Any, *, waiting: bool, under_way: bool) -> tuple[int, str]:
    """How a run ends now, and why; 0: it goes on. What is under way still counts."""
    if under_way:
        return 0, ""
    if row["planned"] and not waiting:
        return EXPERIMENT_OUTCOME_COMPLETED, ""
    if row["spent"]:
        return EXPERIMENT_OUTCOME_BUDGET_SPENT, "budget.max_cost_usd is spent"
    if row["late"]:
        return EXPERIMENT_OUTCOME_BUDGET_SPENT, "budget.max_seconds are over"
    return 0, ""


def ending_of(run: Run, said: Sequence[Said], outcome: int, reason: str, at_ns: int) -> list[bytes]:
    """The events that end a run, the end last. The ids follow from the run."""
    finished = ExperimentFinished(
        run_id=run[1],
        outcome=outcome,  # type: ignore[arg-type]
        reason=reason,
        evaluations=[evaluation_of(each, run) for each in said],
    )
    try:
        check_end(finished, "the end")
    except InvalidError:  # rather less than never
        for each in finished.evaluations:
            each.ClearField("metadata_json")
    scores = scores_of(run, run, ScoreTarget(run_id=run[1]), said, at_ns)
    return [*scores, run_event(run, ["finished"], at_ns, experiment_finished=finished)]


def judged_of(row: Any) -> Judged:
    """A result as run-level evaluators see it."""
    result = ExperimentItemFinished.FromString(row["result"])
    usage = result.usage
    took = result.ended_at.ToNanoseconds() - result.started_at.ToNanoseconds()
    return Judged(
        case=Case(
            input=_json(row["input"] or result.input_json),
            output=_json(result.output_json),
            expected_output=_json(row["expected_output"] or result.expected_output_json),
            metadata=_json(row["metadata"] or result.metadata_json) or {},
            error=result.error,
            latency_seconds=took / 1e9 if result.HasField("ended_at") and result.HasField("started_at") else None,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost_usd=usage.cost_picodollars / _DOLLAR if usage.HasField("cost_picodollars") else None,
        ),
        evaluations=[evaluation for each in result.evaluations if (evaluation := _evaluation(each))],
        errors={each.name: each.error for each in result.evaluations if each.WhichOneof("value") == "error"},
        item_id=result.item_id,
        repetition=result.repetition,
    )


def _evaluation(told: ItemEvaluation) -> Evaluation | None:
    match told.WhichOneof("value"):
        case "numeric":
            return Evaluation(name=told.name, value=told.numeric, data_type="NUMERIC")
        case "boolean":
            return Evaluation(name=told.name, value=told.boolean, data_type="BOOLEAN")
        case "categorical":
            return Evaluation(name=told.name, value=told.categorical, data_type="CATEGORICAL")
        case "text":
            return Evaluation(name=told.name, value=told.text, data_type="TEXT")
        case _:
            return None


def _json(text: str) -> Any:
    return json.loads(text) if text else None


async def _said(evaluator: RunEvaluator, results: Sequence[Judged], seconds: float) -> Said:
    started, evaluation, error = time_ns(), None, ""
    try:
        async with asyncio.timeout(seconds):
            evaluation = await evaluator.evaluate(results)
    except TimeoutError:
        error = f"it took longer than {seconds:g} s"
    except EvaluatorError as failed:
        error = str(failed) or type(failed).__name__
    return Said(evaluator.name, evaluator.revision, evaluation, error, started, max(started, time_ns()))
