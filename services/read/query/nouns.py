"""Rows as the messages that reads answer with."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.trace_pb2 import Anatomy, Level, Span, SpanType, Tokens, TraceSummary

_DOLLAR = 10**12
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TYPE_NAMES = [name.removeprefix("SPAN_TYPE_").lower() for name, number in SpanType.items() if number]
_LEVEL_NAMES = [name.removeprefix("LEVEL_").lower() for name, number in Level.items() if number]


def trace_summary(row: asyncpg.Record) -> TraceSummary:
    """A row of trace_columns.sql."""
    summary = TraceSummary(
        trace_id=row["trace_id"].hex(),
        name=row["name"] or "",
        user_id=row["user_id"] or "",
        session_id=row["session_id"] or "",
        tags=row["tags"],
        environment=row["environment"] or "",
        release=row["release"] or "",
        version=row["version"] or "",
        start_time=timestamp(row["start_at"]),
        latency_us=row["latency_us"] or 0,
        root_seen=row["root_span_id"] is not None,
        level=row["level"],
        status_message=row["root_status_message"] or "",
        span_count=row["span_count"],
        error_count=row["level_counts"][Level.LEVEL_ERROR - 1],
        counts_by_type=_by_name(_TYPE_NAMES, row["type_counts"]),
        counts_by_level=_by_name(_LEVEL_NAMES, row["level_counts"]),
        tokens=tokens(row),
        cost_usd=row["cost_picos"] / _DOLLAR,
        anatomy=_anatomy(row),
        input_preview=row["root_input_preview"] or "",
        output_preview=row["root_output_preview"] or "",
    )
    if row["end_at"]:
        summary.end_time.CopyFrom(timestamp(row["end_at"]))
    return summary


def span(row: Mapping[str, Any], *, critical: bool) -> Span:
    """A row of get_spans.sql."""
    message = Span(
        span_id=row["span_id"].hex(),
        parent_span_id=row["parent_span_id"].hex() if row["parent_span_id"] else "",
        name=row["name"],
        type=row["type"],
        start_time=timestamp(row["start_at"]),
        level=row["level"],
        status_message=row["status_message"] or "",
        model=row["model"] or "",
        provider=row["provider"] or "",
        usage=_json(row["usage"]),
        cost={kind: picos / _DOLLAR for kind, picos in _json(row["cost"]).items()},
        tokens=tokens(row),
        cost_usd=row["cost_picos"] / _DOLLAR,
        prompt_name=row["prompt_name"] or "",
        prompt_version=row["prompt_version"] or 0,
        environment=row["environment"] or "",
        release=row["release"] or "",
        sdk=row["sdk"] or "",
        user_id=row["user_id"] or "",
        session_id=row["session_id"] or "",
        input_preview=row["input_preview"] or "",
        output_preview=row["output_preview"] or "",
        sanitized=row["sanitized"],
        critical=critical,
    )
    if row["end_at"]:
        message.end_time.CopyFrom(timestamp(row["end_at"]))
        message.duration_us = microseconds_between(row["start_at"], row["end_at"])
    if row["first_token_us"] is not None:
        message.time_to_first_token_us = row["first_token_us"]
    return message


def tokens(row: Mapping[str, Any]) -> Tokens:
    """The three totals of a row."""
    return Tokens(input=row["input_tokens"], output=row["output_tokens"], total=row["total_tokens"])


def timestamp(moment: datetime) -> Timestamp:
    """A time as protobuf has it."""
    seconds, microseconds = divmod(microseconds_since_1970(moment), 1_000_000)
    return Timestamp(seconds=seconds, nanos=1_000 * microseconds)


def microseconds_between(start: datetime, end: datetime) -> int:
    """Exact, unlike total_seconds()."""
    passed = end - start
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def microseconds_since_1970(moment: datetime) -> int:
    """A time as page tokens hold it."""
    return microseconds_between(_EPOCH, moment)


def _anatomy(row: asyncpg.Record) -> Anatomy:
    return Anatomy(
        retrieval_us=row["retrieval_us"],
        generation_us=row["generation_us"],
        tool_us=row["tool_us"],
        other_us=row["other_us"],
        idle_us=max(0, (row["latency_us"] or 0) - row["child_us"]) if row["latency_us"] else 0,
    )


def _by_name(names: list[str], counts: list[int]) -> dict[str, int]:
    return {name: count for name, count in zip(names, counts, strict=True) if count}


def _json(text: str | None) -> dict[str, int]:
    found: dict[str, int] = orjson.loads(text) if text else {}
    return found
