"""The rows of the traces read model, field for field the columns of migrations/traces/0001_pre_traces.sql."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple

SpanKey = tuple[str, bytes, bytes, date]
"""Project, trace, span and the UTC day of its start: what makes a span one."""
BlockKey = tuple[str, int, int]
"""Project, partition and offset of a record."""


class SpanRef(NamedTuple):
    """Where a revision of a span is in the log. Ordered by the gateway's clock, then as the log orders it."""

    received_at_us: int
    partition: int
    offset: int
    span_index: int


@dataclass(slots=True)
class SpanRow:
    """One span: a pure function of the set of its revisions."""

    project_id: str
    start_day: date
    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes | None
    is_root: bool
    name: str
    type: int
    level: int
    status_message: str | None
    start_at_us: int
    end_at_us: int | None
    first_token_us: int | None
    model: str | None
    provider: str | None
    usage: dict[str, int] | None
    cost: dict[str, int] | None
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cost_picos: int
    prompt_name: str | None
    prompt_version: int | None
    trace_name: str | None
    user_id: str | None
    session_id: str | None
    tags: list[str] | None
    environment: str | None
    release: str | None
    version: str | None
    sdk: str | None
    input_preview: str | None
    output_preview: str | None
    sanitized: int
    parts: tuple[SpanRef, ...]
    """Where its revisions are: ascending, at least one."""


@dataclass(slots=True)
class BlockRow:
    """One record of the log, its bytes as they are there."""

    project_id: str
    partition: int
    offset: int
    received_at: datetime
    sdk_name: str
    sdk_version: str
    compression: int
    span_count: int
    otlp_request: bytes


Busy = list[tuple[int, int]]
"""When something ran: half-open intervals in µs since 1970, ascending and apart."""


@dataclass(slots=True)
class TraceRow:
    """What some spans of one trace add to its summary. Generated columns are the database's."""

    project_id: str
    trace_id: bytes
    start_at_us: int
    end_at_us: int | None
    last_start_at_us: int
    received_at_us: int
    last_received_at_us: int
    root_start_at_us: int | None
    root_span_id: bytes | None
    root_name: str | None
    root_trace_name: str | None
    root_user_id: str | None
    root_session_id: str | None
    root_environment: str | None
    root_release: str | None
    root_version: str | None
    root_status_message: str | None
    root_input_preview: str | None
    root_output_preview: str | None
    any_trace_name: str | None
    any_user_id: str | None
    any_session_id: str | None
    any_environment: str | None
    any_release: str | None
    any_version: str | None
    tags: list[str]
    level: int
    span_count: int
    type_counts: list[int]
    level_counts: list[int]
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cost_picos: int
    retrieval_busy: Busy
    generation_busy: Busy
    tool_busy: Busy
    child_busy: Busy
