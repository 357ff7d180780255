"""The log decides: (a run, a command) → the run as it is then, and the result that was told. Pure.

The first request of a run holds, and the first result of each item and repetition, whatever the run's state is, and
the first end.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from lodestream_proto.v1.experiment_event_pb2 import (
    EXPERIMENT_OUTCOME_BUDGET_SPENT,
    EXPERIMENT_OUTCOME_FAILED,
    ExperimentCancelled,
    ExperimentFinished,
    ExperimentItemFinished,
    ExperimentPaused,
    ExperimentRequested,
    ExperimentResumed,
)
from lodestream_proto.v1.experiments_pb2 import (
    EXPERIMENT_STATE_BUDGET_SPENT,
    EXPERIMENT_STATE_CANCELLED,
    EXPERIMENT_STATE_COMPLETED,
    EXPERIMENT_STATE_FAILED,
    EXPERIMENT_STATE_PAUSED,
    EXPERIMENT_STATE_RUNNING,
)

from services.projections.experiments.commands import AboutRun

_UNDER_WAY = frozenset({EXPERIMENT_STATE_RUNNING, EXPERIMENT_STATE_PAUSED})
_ENDED_AS = {
    EXPERIMENT_OUTCOME_BUDGET_SPENT: EXPERIMENT_STATE_BUDGET_SPENT,
    EXPERIMENT_OUTCOME_FAILED: EXPERIMENT_STATE_FAILED,
}
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Run:
    """How far a run is."""

    requested_at: datetime
    last_at: datetime
    """No instant of it is later."""
    state: int = EXPERIMENT_STATE_RUNNING
    reason: str = ""
    ended_at: datetime | None = None
    run_evaluations: tuple[bytes, ...] = ()
    items_finished: int = 0
    items_failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_picodollars: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """What a command comes to: the run after it, and what came of an item."""

    run: Run
    requested: ExperimentRequested | None = None
    result: ExperimentItemFinished | None = None
    finished_at: datetime | None = None
    """Of the result. Later than that of every result before, so that it tells where one has read up to."""


class NoRunError(LookupError):
    """Something is told of a run that is not there; the message says of which."""


def decide_run(run: Run | None, payload: AboutRun, appended_at: datetime, *, is_known: bool = False) -> Step | None:
    """What a command comes to; None: nothing. `is_known`: there is a result of this item and repetition already.

    Raises NoRunError.
    """
    if isinstance(payload, ExperimentRequested):
        return None if run else Step(Run(appended_at, appended_at), requested=payload)
    if run is None:
        raise NoRunError(f"run_id: this project has no run {payload.run_id!r}")
    match payload:
        case ExperimentItemFinished():
            return None if is_known else _finish_item(run, payload, appended_at)
        case ExperimentFinished():
            state = _ENDED_AS.get(payload.outcome, EXPERIMENT_STATE_COMPLETED)
            evaluations = tuple(its.SerializeToString(deterministic=True) for its in payload.evaluations)
            reason = payload.reason if state != EXPERIMENT_STATE_COMPLETED else ""
            return _end(replace(run, run_evaluations=evaluations), state, reason, appended_at)
        case ExperimentCancelled():
            return _end(run, EXPERIMENT_STATE_CANCELLED, payload.reason, appended_at)
        case ExperimentPaused():
            return _turn(run, EXPERIMENT_STATE_RUNNING, EXPERIMENT_STATE_PAUSED)
        case ExperimentResumed():
            return _turn(run, EXPERIMENT_STATE_PAUSED, EXPERIMENT_STATE_RUNNING)


def _finish_item(run: Run, result: ExperimentItemFinished, appended_at: datetime) -> Step:
    at = appended_at if appended_at > run.last_at else run.last_at + _TICK
    usage = result.usage
    counted = replace(
        run,
        last_at=at,
        items_finished=run.items_finished + 1,
        items_failed=run.items_failed + bool(result.error),
        input_tokens=run.input_tokens + usage.input_tokens,
        output_tokens=run.output_tokens + usage.output_tokens,
        cost_picodollars=run.cost_picodollars + usage.cost_picodollars,
    )
    return Step(counted, result=result, finished_at=at)


def _end(run: Run, state: int, reason: str, appended_at: datetime) -> Step | None:
    if run.state not in _UNDER_WAY:
        return None
    at = max(appended_at, run.last_at)
    return Step(replace(run, state=state, reason=reason, ended_at=at, last_at=at))


def _turn(run: Run, before: int, after: int) -> Step | None:
    return Step(replace(run, state=after)) if run.state == before else None
