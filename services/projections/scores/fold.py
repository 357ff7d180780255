"""Records to rows, purely: one row for each event, and what can't be folded.

What holds now is a function of the set of a score id's events: the last one by (scored_at, event id), whatever its
target is and in whichever partition it lies. Of several records with one event id (a retry whose client told no time, a
client that uses an id twice) the first by (scored_at, digest) counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from math import isfinite
from typing import TypeVar
from uuid import UUID

from google.protobuf.message import Message
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.score_event_pb2 import (
    SCORE_TYPE_BOOLEAN,
    SCORE_TYPE_CATEGORICAL,
    SCORE_TYPE_NUMERIC,
    SCORE_TYPE_TEXT,
    ScoreConfigDefined,
    ScoreRecorded,
    ScoreTarget,
)

from services.projections.scores.rows import ConfigRow, ScoreRow
from shared.event_log.codec import Recorded
from shared.read_model.dead_letters import DeadLetter, whole
from shared.runtime.memory import raise_if_out_of_memory

AHEAD = timedelta(minutes=5)
"""How far a clock may be ahead of the gateway's: a score from the far future would never be superseded."""
Row = TypeVar("Row", ScoreRow, ConfigRow)
_Value = tuple[int, float | None, str | None]  # type, number, label


class PoisonedScoreError(ValueError):
    """An event that can't become a row; the message says why."""


@dataclass(slots=True)
class Folded:
    """What records come to: rows with the offsets of their records, and what has to be set aside."""

    scores: list[tuple[int, ScoreRow]] = field(default_factory=list)
    configs: list[tuple[int, ConfigRow]] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)


def fold(records: Sequence[Recorded]) -> Folded:
    """Never raises: a record that trips us is set aside with the reason."""
    folded = Folded()
    for record in records:
        try:
            row = row_of(record)
        except PoisonedScoreError as error:
            folded.dead_letters.append(whole(record, str(error)))
        except Exception as error:
            raise_if_out_of_memory(error)
            folded.dead_letters.append(whole(record, f"{type(error).__name__}: {error}"))
        else:
            if isinstance(row, ScoreRow):
                folded.scores.append((record.offset, row))
            else:
                folded.configs.append((record.offset, row))
    return folded


def row_of(record: Recorded) -> ScoreRow | ConfigRow:
    """The row of an event.

    Raises PoisonedScoreError.
    """
    event = record.event
    if event is None:
        raise PoisonedScoreError("the record is not an Event of a project")
    match event.WhichOneof("payload"):
        case "score_recorded":
            return _recorded(event, record.appended_at)
        case "score_retracted":
            return _retracted(event, record.appended_at)
        case "score_config_defined":
            return _defined(event, record.appended_at)
        case kind:
            raise PoisonedScoreError(
                f"the payload is {kind or 'of an unknown kind'}, which does not belong in this topic"
            )


def first_tellings(rows: Sequence[Row]) -> list[Row]:
    """One row for each event."""
    first: dict[tuple[str, str, UUID], Row] = {}
    for row in rows:
        known = first.get(row.event)
        if known is None or row.precedence < known.precedence:
            first[row.event] = row
    return list(first.values())


def _recorded(event: Event, appended_at: datetime) -> ScoreRow:
    score = event.score_recorded
    kind, number, label = _value(score)
    return ScoreRow(
        event.project_id,
        _named(score.score_id, "score_id"),
        _event_id(event),
        _time(event, appended_at),
        _digest(score),
        False,
        *_target(score.target),
        name=_named(score.name, "name"),
        type=kind,
        number=number,
        label=label,
        comment=score.comment,
        config_id=score.config_id,
        source=score.source,
        author=score.author,
        evaluator_version=score.evaluator_version,
        environment=score.environment,
        metadata=score.metadata_json,
    )


def _retracted(event: Event, appended_at: datetime) -> ScoreRow:
    its = event.score_retracted
    return ScoreRow(
        event.project_id,
        _named(its.score_id, "score_id"),
        _event_id(event),
        _time(event, appended_at),
        _digest(its),
        True,
        *_target(its.target),
        retraction_reason=its.reason,
    )


def _defined(event: Event, appended_at: datetime) -> ConfigRow:
    config: ScoreConfigDefined = event.score_config_defined
    return ConfigRow(
        event.project_id,
        _named(config.config_id, "config_id"),
        _event_id(event),
        _time(event, appended_at),
        _digest(config),
        _named(config.name, "name"),
        config.type,
        config.min_value if config.HasField("min_value") else None,
        config.max_value if config.HasField("max_value") else None,
        [category.label for category in config.categories],
        [category.value for category in config.categories],
        config.description,
        config.archived,
    )


def _event_id(event: Event) -> UUID:
    try:
        return UUID(event.event_id)
    except ValueError:
        raise PoisonedScoreError(f"event_id: {event.event_id[:64]!r} is no UUID") from None


def _time(event: Event, appended_at: datetime) -> datetime:
    received_at = event.received_at.ToDatetime(tzinfo=UTC) if event.HasField("received_at") else appended_at
    if not event.HasField("occurred_at"):
        return received_at
    return min(event.occurred_at.ToDatetime(tzinfo=UTC), received_at + AHEAD)


def _digest(payload: Message) -> bytes:
    return blake2b(payload.SerializeToString(deterministic=True), digest_size=16).digest()


def _named(text: str, field: str) -> str:
    if not text:
        raise PoisonedScoreError(f"{field}: is missing")
    return text


def _target(target: ScoreTarget) -> tuple[bytes | None, bytes | None, str | None, str | None]:
    told = [name for name in ("trace_id", "session_id", "run_id") if getattr(target, name)]
    if len(told) != 1 or (target.span_id and not target.trace_id):
        raise PoisonedScoreError(f"target: is {' and '.join(told) or 'nothing'} instead of one of them")
    return target.trace_id or None, target.span_id or None, target.session_id or None, target.run_id or None


def _value(score: ScoreRecorded) -> _Value:
    value = score.value
    match value.WhichOneof("kind"):
        case "numeric":
            return SCORE_TYPE_NUMERIC, _finite(value.numeric, "value.numeric"), None
        case "boolean":
            return SCORE_TYPE_BOOLEAN, float(value.boolean), "true" if value.boolean else "false"
        case "categorical":
            number = _finite(score.category_value, "category_value") if score.HasField("category_value") else None
            return SCORE_TYPE_CATEGORICAL, number, value.categorical
        case "text":
            return SCORE_TYPE_TEXT, None, value.text
    raise PoisonedScoreError("value: is missing")


def _finite(number: float, field: str) -> float:
    if not isfinite(number):
        raise PoisonedScoreError(f"{field}: {number} is no number")
    return number
