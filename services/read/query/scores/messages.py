"""Rows of scores as the messages that reads answer with."""

from collections.abc import Mapping
from typing import Any

from lodestream_proto.v1.score_event_pb2 import (
    SCORE_TYPE_BOOLEAN,
    SCORE_TYPE_CATEGORICAL,
    SCORE_TYPE_NUMERIC,
    SCORE_TYPE_TEXT,
    ScoreTarget,
    ScoreValue,
)
from lodestream_proto.v1.scores_pb2 import Score
from lodestream_proto.v1.trace_pb2 import AttachedScore

from services.read.query.nouns import timestamp

Row = Mapping[str, Any]


def score(row: Row, *, superseded: bool = False) -> Score:
    """A row of list_scores.sql or get_score_history.sql."""
    return Score(
        score_id=row["score_id"],
        target=ScoreTarget(
            trace_id=row["trace_id"] or b"",
            span_id=row["span_id"] or b"",
            session_id=row["session_id"] or "",
            run_id=row["run_id"] or "",
        ),
        name=row["name"] or "",
        value=None if row["retracted"] else value(row),
        comment=row["comment"] or "",
        config_id=row["config_id"] or "",
        source=row["source"],
        author=row["author"] or "",
        evaluator_version=row["evaluator_version"] or "",
        environment=row["environment"] or "",
        metadata_json=row["metadata"] or "",
        scored_at=timestamp(row["scored_at"]),
        superseded=superseded,
        retracted=row["retracted"],
        retraction_reason=row["retraction_reason"] or "",
    )


def attached(row: Row) -> AttachedScore:
    """A row of get_trace_scores.sql."""
    return AttachedScore(
        score_id=row["score_id"],
        name=row["name"],
        value=value(row),
        number=row["number"],
        comment=row["comment"],
        source=row["source"],
        author=row["author"],
        evaluator_version=row["evaluator_version"],
        scored_at=timestamp(row["scored_at"]),
    )


def value(row: Row) -> ScoreValue:
    """The value as it was given."""
    match row["type"]:
        case _ if row["type"] == SCORE_TYPE_NUMERIC:
            return ScoreValue(numeric=row["number"])
        case _ if row["type"] == SCORE_TYPE_BOOLEAN:
            return ScoreValue(boolean=row["number"] == 1)
        case _ if row["type"] == SCORE_TYPE_CATEGORICAL:
            return ScoreValue(categorical=row["label"])
        case _ if row["type"] == SCORE_TYPE_TEXT:
            return ScoreValue(text=row["label"])
    return ScoreValue()
