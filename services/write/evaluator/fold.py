"""The fold of the log into the queue: which runs workers have to run, and what has become of them.

`fold` is pure; `RunsFold` writes what it makes of records in the transaction of the projector's fence. Folding a record
again changes nothing.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import (
    EXPERIMENT_OUTCOME_BUDGET_SPENT,
    EXPERIMENT_OUTCOME_COMPLETED,
    EXPERIMENT_OUTCOME_FAILED,
    EXPERIMENT_OUTCOME_UNSPECIFIED,
    ExperimentCancelled,
)
from lodestream_proto.v1.experiments_pb2 import (
    EXPERIMENT_STATE_BUDGET_SPENT,
    EXPERIMENT_STATE_CANCELLED,
    EXPERIMENT_STATE_COMPLETED,
    EXPERIMENT_STATE_FAILED,
    EXPERIMENT_STATE_PAUSED,
    EXPERIMENT_STATE_RUNNING,
)

from services.write.evaluator.jobs import JobState, Run, add_spending, notify_workers, schedule_run_check
from services.write.evaluator.tasks import TaskError, is_run_by_client, parse_task, required_providers
from shared.event_log.codec import LogRecord
from shared.event_log.topics import EXPERIMENTS
from shared.projection.dead_letters import DeadLetter, set_aside, whole
from shared.projection.projection import SAMPLE_EVENT_ID, SAMPLE_PROJECT
from shared.projection.refused import write_or_bisect
from shared.rules.experiments import CHECKS
from shared.runtime.failpoints import failpoint
from shared.runtime.refusal import InvalidError
from shared.storage.named_queries import load_queries

NAME = "evaluator"
"""The fold's name in the positions, the dead letters and the metrics; also the schema of its tables."""

_JOBS = load_queries(Path(__file__).with_name("jobs.sql"))
_RUNS = load_queries(Path(__file__).with_name("runs.sql"))
_LOCK_JOBS, _UPSERT_PUBLISHED = _JOBS["lock_jobs"], _JOBS["upsert_published"]
_INSERT_RUN, _READ_REQUEST_OFFSETS = _RUNS["insert_run"], _RUNS["read_request_offsets"]
_PAUSE_OR_RESUME, _END_RUN = _RUNS["pause_or_resume"], _RUNS["end_run"]
_PICODOLLARS_PER_DOLLAR = 10**12
_MAX_BUDGET_SECONDS = 10 * 365 * 86_400.0
_OUTCOME_STATES = {
    EXPERIMENT_OUTCOME_UNSPECIFIED: EXPERIMENT_STATE_COMPLETED,
    EXPERIMENT_OUTCOME_COMPLETED: EXPERIMENT_STATE_COMPLETED,
    EXPERIMENT_OUTCOME_BUDGET_SPENT: EXPERIMENT_STATE_BUDGET_SPENT,
    EXPERIMENT_OUTCOME_FAILED: EXPERIMENT_STATE_FAILED,
}


@dataclass(frozen=True, slots=True)
class RequestedRun:
    """A run that workers have to run; with an `outcome` it has failed before it began."""

    record: LogRecord
    run: Run
    request: bytes
    requested_at: datetime
    provider: str
    providers: Sequence[str]
    """The provider of the task and those of LLM judges."""
    max_concurrency: int
    ends_by: datetime | None
    max_picodollars: Decimal | None
    outcome: int = EXPERIMENT_OUTCOME_UNSPECIFIED
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PublishedResult:
    """An item's result that the log has."""

    record: LogRecord
    run: Run
    item_id: str
    repetition: int
    picodollars: int


@dataclass(frozen=True, slots=True)
class StateChange:
    """A run was paused or resumed, which counts once for each event, or ended, which counts once for each run."""

    record: LogRecord
    run: Run
    state: int
    event_id: str


Folded = TypeVar("Folded", RequestedRun, PublishedResult, StateChange)


@dataclass(slots=True)
class FoldedRecords:
    """What a batch of records says. What the log says of a run before its request has no effect."""

    requested: list[RequestedRun] = field(default_factory=list)
    results: list[PublishedResult] = field(default_factory=list)
    state_changes: list[StateChange] = field(default_factory=list)


class RunsFold:
    """The projection of the evaluator: requests become runs, results published jobs, state changes move runs."""

    name = NAME
    topic = EXPERIMENTS

    def items(self, _event: Event) -> int:
        """Every event counts as one item."""
        return 1

    def sample(self) -> Event:
        """The cancellation of a run that nobody requested."""
        cancelled = ExperimentCancelled(run_id="sample")
        return Event(event_id=SAMPLE_EVENT_ID, project_id=SAMPLE_PROJECT, experiment_cancelled=cancelled)

    async def prepare(self, records: Sequence[LogRecord]) -> FoldedRecords:
        """Fold the records, before the fence is taken."""
        return fold(records)

    async def write(
        self,
        connection: asyncpg.Connection,
        records: Sequence[LogRecord],  # noqa: ARG002 - the prepared values hold them
        prepared: FoldedRecords,
    ) -> list[DeadLetter]:
        """Write the rows; what the database refuses becomes a dead letter."""
        letters = [
            *await _write_or_refuse(connection, prepared.requested, insert_runs),
            *await _write_or_refuse(connection, prepared.results, apply_results),
            *await _write_or_refuse(connection, prepared.state_changes, apply_state_changes),
        ]
        if letters:
            await set_aside(connection, NAME, letters)
        if prepared.requested or prepared.state_changes:
            await notify_workers(connection)
        await failpoint("evaluator.folded")
        return letters


def fold(records: Sequence[LogRecord]) -> FoldedRecords:
    """Fold records. Never raises: what the projection of experiments makes a dead letter of is skipped here."""
    folded = FoldedRecords()
    for record in records:
        event = record.event
        if event is None or not _is_valid(event):
            continue
        changes = folded.state_changes
        match event.WhichOneof("payload"):
            case "experiment_requested":
                if not is_run_by_client(event.experiment_requested):
                    folded.requested.append(_requested_run(record, event))
            case "experiment_item_finished":
                result = event.experiment_item_finished
                run, cost = (event.project_id, result.run_id), result.usage.cost_picodollars
                folded.results.append(PublishedResult(record, run, result.item_id, result.repetition, cost))
            case "experiment_paused":
                changes.append(_state_change(record, event, event.experiment_paused.run_id, EXPERIMENT_STATE_PAUSED))
            case "experiment_resumed":
                changes.append(_state_change(record, event, event.experiment_resumed.run_id, EXPERIMENT_STATE_RUNNING))
            case "experiment_cancelled":
                run_id = event.experiment_cancelled.run_id
                changes.append(_state_change(record, event, run_id, EXPERIMENT_STATE_CANCELLED))
            case "experiment_finished":
                state = _OUTCOME_STATES.get(event.experiment_finished.outcome, EXPERIMENT_STATE_COMPLETED)
                changes.append(_state_change(record, event, event.experiment_finished.run_id, state))
    return folded


async def insert_runs(connection: asyncpg.Connection, requested: Sequence[RequestedRun]) -> None:
    """Insert runs; the first request of a run id holds."""
    await connection.executemany(_INSERT_RUN, [
        (
            *each.run, each.request, EXPERIMENT_STATE_RUNNING, each.requested_at, each.record.partition,
            each.record.offset, each.provider, each.providers, each.max_concurrency, each.ends_by,
            each.max_picodollars, each.outcome, each.reason,
        )
        for each in requested
    ])  # fmt: skip


async def apply_results(connection: asyncpg.Connection, results: Sequence[PublishedResult]) -> None:
    """Mark jobs as published, planned or not. A result that no worker had decided is charged to its run now."""
    rows = await connection.fetch(_READ_REQUEST_OFFSETS, *_sorted_columns({each.run for each in results}))
    request_offsets = {(row["project_id"], row["run_id"]): row["request_offset"] for row in rows}
    first = {
        (*each.run, each.item_id, each.repetition): each
        for each in reversed(results)
        if request_offsets.get(each.run, each.record.offset) < each.record.offset
    }
    if not first:
        return
    keys = _sorted_columns(set(first))
    states = {tuple(row)[:4]: row["state"] for row in await connection.fetch(_LOCK_JOBS, *keys)}
    await connection.execute(_UPSERT_PUBLISHED, *keys)
    spent: dict[Run, int] = defaultdict(int)
    for key, each in first.items():
        if states.get(key, JobState.QUEUED) < JobState.DECIDED:
            spent[each.run] += each.picodollars
    await add_spending(connection, spent)
    await schedule_run_check(connection, {each.run for each in first.values()})


async def apply_state_changes(connection: asyncpg.Connection, changes: Sequence[StateChange]) -> None:
    """Move runs, in order. Running and paused alternate; the first end is the end."""
    for change in changes:
        if change.state in (EXPERIMENT_STATE_PAUSED, EXPERIMENT_STATE_RUNNING):
            await connection.execute(_PAUSE_OR_RESUME, *change.run, change.event_id, change.state, change.record.offset)
        else:
            await connection.execute(_END_RUN, *change.run, change.state, change.record.offset)


async def _write_or_refuse(
    connection: asyncpg.Connection,
    folded: Sequence[Folded],
    write: Callable[[asyncpg.Connection, Sequence[Folded]], Awaitable[None]],
) -> list[DeadLetter]:
    refused = await write_or_bisect(connection, folded, partial(write, connection))
    return [whole(each.record, reason) for each, reason in refused]


def _is_valid(event: Event) -> bool:
    """Whether the projection of experiments takes the event, by the rules that both share."""
    kind = str(event.WhichOneof("payload"))
    if kind not in CHECKS or "\0" in event.project_id:
        return False
    try:
        CHECKS[kind](getattr(event, kind), kind)
        return str(UUID(event.event_id)) == event.event_id
    except (InvalidError, ValueError):
        return False


def _requested_run(record: LogRecord, event: Event) -> RequestedRun:
    request = event.experiment_requested
    outcome, reason, provider, providers = EXPERIMENT_OUTCOME_UNSPECIFIED, "", "", [""]
    try:
        provider, providers = parse_task(request).provider, required_providers(request)
    except TaskError as error:
        outcome, reason = EXPERIMENT_OUTCOME_FAILED, str(error)
    seconds, dollars = request.budget.max_seconds, request.budget.max_cost_usd
    return RequestedRun(
        record,
        (event.project_id, request.run_id),
        request.SerializeToString(deterministic=True),
        record.appended_at,
        provider,
        providers,
        max(1, min(request.max_concurrency, 2**31 - 1)),
        record.appended_at + timedelta(seconds=min(seconds, _MAX_BUDGET_SECONDS)) if seconds > 0 else None,
        round(Decimal(dollars) * _PICODOLLARS_PER_DOLLAR) if 0 < dollars < 1e12 else None,  # type: ignore[arg-type]
        outcome,
        reason,
    )


def _state_change(record: LogRecord, event: Event, run_id: str, state: int) -> StateChange:
    return StateChange(record, (event.project_id, run_id), state, event.event_id)


def _sorted_columns(keys: Collection[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*sorted(keys), strict=True)]
