"""The rows of the scores read model, field for field the columns of migrations/scores/0001_pre_scores.sql."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID


class ScoreRow(NamedTuple):
    """One event of a score id: given, or withdrawn; the fields of a value are None where it was withdrawn."""

    project_id: str
    score_id: str
    event_id: UUID
    scored_at: datetime
    digest: bytes
    retracted: bool
    trace_id: bytes | None
    span_id: bytes | None
    session_id: str | None
    run_id: str | None
    name: str | None = None
    type: int | None = None
    number: float | None = None
    label: str | None = None
    comment: str | None = None
    config_id: str | None = None
    source: int | None = None
    author: str | None = None
    evaluator_version: str | None = None
    environment: str | None = None
    metadata: str | None = None
    retraction_reason: str | None = None

    @property
    def event(self) -> tuple[str, str, UUID]:
        """What it is a telling of; of several tellings the one with the least `precedence` counts."""
        return self.project_id, self.score_id, self.event_id

    @property
    def precedence(self) -> tuple[datetime, bytes]:
        """As sql/keep_history.sql compares it."""
        return self.scored_at, self.digest


class ConfigRow(NamedTuple):
    """One event of a config id."""

    project_id: str
    config_id: str
    event_id: UUID
    defined_at: datetime
    digest: bytes
    name: str
    type: int
    min_value: float | None
    max_value: float | None
    labels: list[str]
    label_values: list[float]
    description: str
    archived: bool

    @property
    def event(self) -> tuple[str, str, UUID]:
        """What it is a telling of; of several tellings the one with the least `precedence` counts."""
        return self.project_id, self.config_id, self.event_id

    @property
    def precedence(self) -> tuple[datetime, bytes]:
        """As sql/keep_configs.sql compares it."""
        return self.defined_at, self.digest
