"""Steps of runs as rows. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from lodestream_proto.v1.experiment_event_pb2 import ExperimentItemFinished, ExperimentRequested, ItemEvaluation
from lodestream_proto.v1.score_event_pb2 import (
    SCORE_TYPE_BOOLEAN,
    SCORE_TYPE_CATEGORICAL,
    SCORE_TYPE_NUMERIC,
    SCORE_TYPE_TEXT,
    SCORE_TYPE_UNSPECIFIED,
)

from services.projections.experiments.commands import Subject
from services.projections.experiments.runs import Run, Step


class ResultRow(NamedTuple):
    """Field for field the columns of experiment_items."""

    project_id: str
    run_id: str
    item_id: str
    repetition: int
    failed: bool
    latency_us: int
    cost_picodollars: int | None
    finished_at: datetime
    trace_id: bytes | None
    result: bytes


class EvaluationRow(NamedTuple):
    """Field for field the columns of experiment_evaluations."""

    project_id: str
    run_id: str
    name: str
    item_id: str
    repetition: int
    type: int
    number: float | None
    label: str | None


@dataclass(slots=True)
class RunRows:
    """What steps come to."""

    requested: dict[Subject, ExperimentRequested] = field(default_factory=dict)
    """Of runs that are new."""
    heads: dict[Subject, Run] = field(default_factory=dict)
    results: list[ResultRow] = field(default_factory=list)
    evaluations: list[EvaluationRow] = field(default_factory=list)


def rows_of(steps: Sequence[tuple[Subject, Step]]) -> RunRows:
    """The rows of steps, which are in the order of the log."""
    rows = RunRows()
    for subject, step in steps:
        rows.heads[subject] = step.run
        if step.requested:
            rows.requested[subject] = step.requested
        if step.result and step.finished_at:
            rows.results.append(_result(subject, step.result, step.finished_at))
            rows.evaluations += _evaluations(subject, step.result)
    return rows


def _result(subject: Subject, its: ExperimentItemFinished, finished_at: datetime) -> ResultRow:
    return ResultRow(
        *subject,
        item_id=its.item_id,
        repetition=its.repetition,
        failed=bool(its.error),
        latency_us=its.ended_at.ToMicroseconds() - its.started_at.ToMicroseconds(),
        cost_picodollars=its.usage.cost_picodollars if its.usage.HasField("cost_picodollars") else None,
        finished_at=finished_at,
        trace_id=its.trace_id or None,
        result=its.SerializeToString(deterministic=True),
    )


def _evaluations(subject: Subject, its: ExperimentItemFinished) -> Iterator[EvaluationRow]:
    project_id, run_id = subject
    for evaluation in its.evaluations:
        yield EvaluationRow(project_id, run_id, evaluation.name, its.item_id, its.repetition, *_value(evaluation))


def _value(its: ItemEvaluation) -> tuple[int, float | None, str | None]:
    """Type, number and label."""
    match its.WhichOneof("value"):
        case "numeric":
            return SCORE_TYPE_NUMERIC, its.numeric, None
        case "boolean":
            return SCORE_TYPE_BOOLEAN, float(its.boolean), "true" if its.boolean else "false"
        case "categorical":
            return SCORE_TYPE_CATEGORICAL, None, its.categorical
        case "text":
            return SCORE_TYPE_TEXT, None, _without_nul(its.text)
        case _:
            return SCORE_TYPE_UNSPECIFIED, None, _without_nul(its.error)


def _without_nul(text: str) -> str:
    """Postgres has no text with a NUL character; the result beside it keeps what was said."""
    return text.replace("\0", "\ufffd")
