"""Records to rows, purely: one row for each event, and what can't be folded.

What holds now is a function of the set of a score id's events: the last one by (scored_at, event id), whatever its
target is and in whichever partition it lies. Of several records with one event id (a retry whose client told no time, a
client that uses an id twice) the first by (scored_at, digest) counts.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from math import isfinite
from typing import Any, TypeVar
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
    ScoreSource,
    ScoreTarget,
    ScoreType,
)

from services.projections.scores.rows import ConfigRow, ScoreRow
from shared.event_log.codec import LogRecord
from shared.projection.dead_letters import DeadLetter, whole
from shared.runtime.memory import raise_if_out_of_memory
from shared.spans.dialects.values import Cleaner

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
    changes: Counter[str] = field(default_factory=Counter)
    """What had to be cleaned, by kind."""


def fold(records: Sequence[LogRecord]) -> Folded:
    """Never raises: a record that trips us is set aside with the reason."""
    folded = Folded()
    for record in records:
        try:
            clean = Cleaner()
            row = row_of(record, clean)
        except PoisonedScoreError as error:
            folded.dead_letters.append(whole(record, str(error)))
        except Exception as error:
            raise_if_out_of_memory(error)
            folded.dead_letters.append(whole(record, f"{type(error).__name__}: {error}"))
        else:
            folded.changes.update(clean.changes)
            if isinstance(row, ScoreRow):
                folded.scores.append((record.offset, row))
            else:
                folded.configs.append((record.offset, row))
    return folded


def row_of(record: LogRecord, clean: Cleaner | None = None) -> ScoreRow | ConfigRow:
    """The row of an event. Texts that people read are cleaned; an id or a name with a NUL character is none.

    Raises PoisonedScoreError.
    """
    clean = clean or Cleaner()
    event = record.event
    if event is None:
        raise PoisonedScoreError("the record is not an Event of a project")
    match event.WhichOneof("payload"):
        case "score_recorded":
            return _recorded(event, record.received_at, clean)
        case "score_retracted":
            return _retracted(event, record.received_at, clean)
        case "score_config_defined":
            return _defined(event, record.received_at, clean)
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


def _recorded(event: Event, received_at: datetime, clean: Cleaner) -> ScoreRow:
    score = event.score_recorded
    kind, number, label = _value(score)
    return ScoreRow(
        event.project_id,
        _named(score.score_id, "score_id"),
        _event_id(event),
        _time(event, received_at),
        _digest(score),
        False,
        *_target(score.target),
        name=_named(score.name, "name"),
        type=kind,
        number=number,
        label=None if label is None else clean.text(label),
        comment=clean.text(score.comment),
        config_id=_without_nul(score.config_id, "config_id"),
        source=_one_of(ScoreSource, score.source, "source"),
        author=clean.text(score.author),
        evaluator_version=clean.text(score.evaluator_version),
        environment=clean.text(score.environment),
        metadata=clean.text(score.metadata_json),
    )


def _retracted(event: Event, received_at: datetime, clean: Cleaner) -> ScoreRow:
    retracted = event.score_retracted
    return ScoreRow(
        event.project_id,
        _named(retracted.score_id, "score_id"),
        _event_id(event),
        _time(event, received_at),
        _digest(retracted),
        True,
        *_target(retracted.target),
        retraction_reason=clean.text(retracted.reason),
    )


def _defined(event: Event, received_at: datetime, clean: Cleaner) -> ConfigRow:
    config: ScoreConfigDefined = event.score_config_defined
    return ConfigRow(
        event.project_id,
        _named(config.config_id, "config_id"),
        _event_id(event),
        _time(event, received_at),
        _digest(config),
        _named(config.name, "name"),
        _one_of(ScoreType, config.type, "type", least=1),
        _finite(config.min_value, "min_value") if config.HasField("min_value") else None,
        _finite(config.max_value, "max_value") if config.HasField("max_value") else None,
        [clean.text(category.label) for category in config.categories],
        [_finite(category.value, "categories.value") for category in config.categories],
        clean.text(config.description),
        config.archived,
    )


def _event_id(event: Event) -> UUID:
    try:
        return UUID(event.event_id)
    except ValueError:
        raise PoisonedScoreError(f"event_id: {event.event_id[:64]!r} is no UUID") from None


def _time(event: Event, received_at: datetime) -> datetime:
    if not event.HasField("occurred_at"):
        return received_at
    return min(event.occurred_at.ToDatetime(tzinfo=UTC), received_at + AHEAD)


def _digest(payload: Message) -> bytes:
    return blake2b(payload.SerializeToString(deterministic=True), digest_size=16).digest()


def _named(text: str, field: str) -> str:
    if not text:
        raise PoisonedScoreError(f"{field}: is missing")
    return _without_nul(text, field)


def _without_nul(text: str, field: str) -> str:
    if "\0" in text:
        raise PoisonedScoreError(f"{field}: has a NUL character")
    return text


def _one_of(kinds: Any, number: int, field: str, *, least: int = 0) -> int:
    """The number of an enum's value, as far as this version knows them."""
    if number not in kinds.values() or number < least:
        raise PoisonedScoreError(f"{field}: {number} is no {kinds.DESCRIPTOR.name}")
    return number


def _target(target: ScoreTarget) -> tuple[bytes | None, bytes | None, str | None, str | None]:
    targets = [name for name in ("trace_id", "session_id", "run_id") if getattr(target, name)]
    if len(targets) != 1 or (target.span_id and not target.trace_id):
        raise PoisonedScoreError(f"target: is {' and '.join(targets) or 'nothing'} instead of one of them")
    session_id, run_id = (_without_nul(getattr(target, name), f"target.{name}") for name in ("session_id", "run_id"))
    return target.trace_id or None, target.span_id or None, session_id or None, run_id or None


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
