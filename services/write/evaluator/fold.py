"""Records to what they mean for workers. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import (
    EXPERIMENT_OUTCOME_BUDGET_SPENT,
    EXPERIMENT_OUTCOME_COMPLETED,
    EXPERIMENT_OUTCOME_FAILED,
    EXPERIMENT_OUTCOME_UNSPECIFIED,
)
from lodestream_proto.v1.experiments_pb2 import (
    EXPERIMENT_STATE_BUDGET_SPENT,
    EXPERIMENT_STATE_CANCELLED,
    EXPERIMENT_STATE_COMPLETED,
    EXPERIMENT_STATE_FAILED,
    EXPERIMENT_STATE_PAUSED,
    EXPERIMENT_STATE_RUNNING,
)

from services.write.evaluator.tasks import TaskError, is_a_programs, providers_of, task_of
from shared.event_log.codec import Recorded
from shared.read_model.experiment_rules import CHECKS
from shared.runtime.refusal import InvalidError

Run = tuple[str, str]
"""A project's id and a run's."""
_PICOS = 10**12
_LONGEST_BUDGET = 10 * 365 * 86_400.0
_OUTCOME_STATES = {
    EXPERIMENT_OUTCOME_UNSPECIFIED: EXPERIMENT_STATE_COMPLETED,
    EXPERIMENT_OUTCOME_COMPLETED: EXPERIMENT_STATE_COMPLETED,
    EXPERIMENT_OUTCOME_BUDGET_SPENT: EXPERIMENT_STATE_BUDGET_SPENT,
    EXPERIMENT_OUTCOME_FAILED: EXPERIMENT_STATE_FAILED,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A run for workers; with an `outcome` it has failed before it began."""

    record: Recorded
    run: Run
    request: bytes
    at: datetime
    provider: str
    providers: Sequence[str]
    """The task's and those of judges."""
    max_concurrency: int
    ends_by: datetime | None
    max_picodollars: Decimal | None
    outcome: int = EXPERIMENT_OUTCOME_UNSPECIFIED
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """A result that the log has."""

    record: Recorded
    run: Run
    item_id: str
    repetition: int
    picodollars: int


@dataclass(frozen=True, slots=True)
class Turn:
    """A run is another state's: paused or running again once for each event, ended once."""

    record: Recorded
    run: Run
    state: int
    event_id: str


@dataclass(slots=True)
class Folded:
    """What records mean, each with its place in the log: what is told before it is asked for tells nothing."""

    asked: list[Asked] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)


def fold(records: Sequence[Recorded]) -> Folded:
    """Never raises. What the read model does not take is its projection's to set aside; workers pass it by."""
    folded = Folded()
    for record in records:
        event = record.event
        if event is None or not _is_taken(event):
            continue
        match event.WhichOneof("payload"):
            case "experiment_requested":
                if not is_a_programs(event.experiment_requested):
                    folded.asked.append(_asked(record, event))
            case "experiment_item_finished":
                its = event.experiment_item_finished
                run = event.project_id, its.run_id
                cost = its.usage.cost_picodollars
                folded.results.append(Result(record, run, its.item_id, its.repetition, cost))
            case "experiment_paused":
                folded.turns.append(_turn(record, event, event.experiment_paused.run_id, EXPERIMENT_STATE_PAUSED))
            case "experiment_resumed":
                folded.turns.append(_turn(record, event, event.experiment_resumed.run_id, EXPERIMENT_STATE_RUNNING))
            case "experiment_cancelled":
                folded.turns.append(_turn(record, event, event.experiment_cancelled.run_id, EXPERIMENT_STATE_CANCELLED))
            case "experiment_finished":
                state = _OUTCOME_STATES.get(event.experiment_finished.outcome, EXPERIMENT_STATE_COMPLETED)
                folded.turns.append(_turn(record, event, event.experiment_finished.run_id, state))
    return folded


def _is_taken(event: Event) -> bool:
    """As the experiments projection judges it."""
    kind = str(event.WhichOneof("payload"))
    if kind not in CHECKS or "\0" in event.project_id:
        return False
    try:
        CHECKS[kind](getattr(event, kind), kind)
        return str(UUID(event.event_id)) == event.event_id
    except (InvalidError, ValueError):
        return False


def _asked(record: Recorded, event: Event) -> Asked:
    request = event.experiment_requested
    outcome, reason, provider, providers = EXPERIMENT_OUTCOME_UNSPECIFIED, "", "", [""]
    try:
        provider, providers = task_of(request).provider, providers_of(request)
    except TaskError as error:
        outcome, reason = EXPERIMENT_OUTCOME_FAILED, str(error)
    seconds, dollars = request.budget.max_seconds, request.budget.max_cost_usd
    return Asked(
        record,
        (event.project_id, request.run_id),
        request.SerializeToString(deterministic=True),
        record.appended_at,
        provider,
        providers,
        max(1, min(request.max_concurrency, 2**31 - 1)),
        record.appended_at + timedelta(seconds=min(seconds, _LONGEST_BUDGET)) if seconds > 0 else None,
        round(Decimal(dollars) * _PICOS) if 0 < dollars < 1e12 else None,  # type: ignore[arg-type]
        outcome,
        reason,
    )


def _turn(record: Recorded, event: Event, run_id: str, state: int) -> Turn:
    return Turn(record, (event.project_id, run_id), state, event.event_id)
