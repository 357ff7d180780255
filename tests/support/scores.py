"""Scores for tests: events, the records they are in, and the projection on a real Postgres without Kafka."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.score_event_pb2 import (
    SCORE_SOURCE_API,
    SCORE_TYPE_NUMERIC,
    ScoreConfigDefined,
    ScoreRecorded,
    ScoreRetracted,
    ScoreTarget,
    ScoreValue,
)

from services.projections.scores.scores import ScoresProjection
from services.projections.scores.tables import prepare_connection
from shared.event_log.assignment import Assignment
from shared.event_log.codec import LogRecord, read
from shared.event_log.topics import SCORES
from shared.projection.projector import Projector
from shared.storage.postgres import connect_pool
from tests.support.projecting import Projecting
from tests.support.records import NOON

SCORES_PROJECTION = "services.projections.scores"
SCORE_TABLES = ("scores", "score_history", "score_config_history")
Value = float | bool | str


def trace(number: int = 1, span: int | None = None) -> ScoreTarget:
    """A trace as a target, or a span of it."""
    return ScoreTarget(trace_id=number.to_bytes(16, "big"), span_id=b"" if span is None else span.to_bytes(8, "big"))


def value_of(value: Value) -> ScoreValue:
    """A number, a boolean or a category."""
    if isinstance(value, bool):
        return ScoreValue(boolean=value)
    return ScoreValue(categorical=value) if isinstance(value, str) else ScoreValue(numeric=value)


def score(
    score_id: str, value: Value = 1.0, *, name: str = "quality", target: ScoreTarget | None = None, **fields
) -> ScoreRecorded:
    """A score, by default of trace 1."""
    return ScoreRecorded(
        score_id=score_id,
        target=target or trace(),
        name=name,
        value=value_of(value),
        **{"source": SCORE_SOURCE_API, **fields},
    )


def retraction(score_id: str, *, target: ScoreTarget | None = None, reason: str = "") -> ScoreRetracted:
    """A score withdrawn."""
    return ScoreRetracted(score_id=score_id, target=target or trace(), reason=reason)


def config(config_id: str, **fields) -> ScoreConfigDefined:
    """A config of scores called "quality", by default of any number."""
    return ScoreConfigDefined(config_id=config_id, **{"name": "quality", "type": SCORE_TYPE_NUMERIC, **fields})


def score_event(
    payload: ScoreRecorded | ScoreRetracted | ScoreConfigDefined,
    *,
    number: int,
    at_s: float | None = 0.0,
    project: str = "p",
    received_at: datetime | None = None,
) -> Event:
    """An event with the id of this number, that occurred so many seconds after noon; None: its author does not say."""
    occurred_at, received = Timestamp(), Timestamp()
    occurred_at.FromDatetime(NOON + timedelta(seconds=at_s or 0.0))
    received.FromDatetime(received_at or NOON + timedelta(seconds=max(0.0, at_s or 0.0)))
    event = Event(
        event_id=str(UUID(int=number)),
        project_id=project,
        occurred_at=None if at_s is None else occurred_at,
        received_at=received,
    )
    match payload:
        case ScoreRecorded():
            event.score_recorded.CopyFrom(payload)
        case ScoreRetracted():
            event.score_retracted.CopyFrom(payload)
        case ScoreConfigDefined():
            event.score_config_defined.CopyFrom(payload)
    return event


def score_record(event: Event | bytes, *, partition: int = 0, offset: int = 0) -> LogRecord:
    """An event as a consumer meets it."""
    raw = event if isinstance(event, bytes) else event.SerializeToString()
    return read(SCORES, partition, offset, int(NOON.timestamp() * 1000) + 1000 * offset, raw)


@asynccontextmanager
async def projecting_scores(dsn: str) -> AsyncIterator[Projecting]:
    """A projector of scores on this database."""
    pool = await connect_pool(dsn, application="test", max_size=8, init=prepare_connection)
    try:
        yield Projecting(Projector(pool, ScoresProjection(), Assignment()), pool)
    finally:
        await pool.close()
