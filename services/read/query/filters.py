"""Conditions of statements, and a TraceFilter as one over the traces table.

Columns are never a caller's text; values are always parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.query_pb2 import TraceFilter
from lodestream_proto.v1.trace_pb2 import LEVEL_ERROR, LEVEL_UNSPECIFIED

from services.read.query.money import to_picodollars
from shared.runtime.refusal import InvalidError

_MAX_VALUES = 100
# As the indexes have them: migrations/traces/0003_pre_read_indexes.sql.
NAME, LATENCY = "coalesce(name, '')", "coalesce(latency_us, -1)"
_ANY_OF = {
    "names": NAME,
    "user_ids": "user_id",
    "session_ids": "session_id",
    "environments": "environment",
    "releases": "release",
}
_BOUNDS = {
    "min_latency_us": f"{LATENCY} >= {{}} AND latency_us IS NOT NULL",
    "max_latency_us": f"{LATENCY} BETWEEN 0 AND {{}}",
    "min_tokens": "total_tokens >= {}",
    "max_tokens": "total_tokens <= {}",
}
_COSTS = {"min_cost_usd": "cost_picos >= {}", "max_cost_usd": "cost_picos <= {}"}


@dataclass(frozen=True, slots=True)
class Statement:
    """A query and its parameters."""

    sql: str
    parameters: list[Any]


class Conditions:
    """Conditions joined by AND, and their parameters in order."""

    def __init__(self, *parameters: Any) -> None:
        """`parameters` are those of the statement around the conditions."""
        self.parameters = list(parameters)
        self._conditions: list[str] = []

    def parameter(self, value: Any) -> str:
        """Add a parameter and return its placeholder."""
        self.parameters.append(value)
        return f"${len(self.parameters)}"

    def add(self, condition: str, value: Any) -> None:
        """Add a condition with one `{}` where the value goes."""
        self._conditions.append(condition.format(self.parameter(value)))

    def add_any_of(self, column: str, values: Sequence[str]) -> None:
        """Add that a column has one of some values; a single one is compared, for its index gives rows in order."""
        if len(values) == 1:
            self.add(f"{column} = {{}}", values[0])
        else:
            self.add(f"{column} = ANY({{}}::text[])", list(values))

    def add_raw(self, condition: str) -> None:
        """Add a condition that has its placeholders already."""
        self._conditions.append(condition)

    def take(self) -> str:
        """Remove the conditions so far and return them as `sql()` does; their parameters stay."""
        taken = self.sql()
        self._conditions.clear()
        return taken

    def sql(self) -> str:
        """Return `AND …` for all conditions, or nothing where there are none."""
        return "".join(f" AND {condition}" for condition in self._conditions)


def add_filter(conditions: Conditions, trace_filter: TraceFilter) -> None:
    """Add everything that a filter asks for.

    Raises RefusedError naming the field that can't be used.
    """
    if trace_filter.HasField("start_from"):
        conditions.add("start_at >= {}", to_datetime("filter.start_from", trace_filter.start_from))
    if trace_filter.HasField("start_before"):
        conditions.add("start_at < {}", to_datetime("filter.start_before", trace_filter.start_before))
    for field, column in _ANY_OF.items():
        if values := _values(field, getattr(trace_filter, field)):
            conditions.add_any_of(column, values)
    if tags := _values("tags", trace_filter.tags):
        conditions.add("tags @> {}::text[] AND tags <> '{{}}'", tags)
    if trace_filter.min_level != LEVEL_UNSPECIFIED:
        conditions.add_raw(f"level >= {int(trace_filter.min_level)}")  # a constant: the index holds only some levels
    _add_bounds(conditions, trace_filter)
    if trace_filter.HasField("has_error"):
        conditions.add_raw(f"level {'>=' if trace_filter.has_error else '<'} {LEVEL_ERROR}")
    if trace_filter.name_contains:
        conditions.add(f"{NAME} ILIKE {{}}", containing(trace_filter.name_contains))


def containing(text: str, field: str = "filter.name_contains") -> str:
    """Return the LIKE pattern of names that contain a text.

    Raises InvalidError for a text that no name can contain.
    """
    return f"%{_escaped(lookable(field, text))}%"


def lookable(field: str, text: str) -> str:
    """Return a text, checked to be one that the database can look for.

    Raises InvalidError naming the field.
    """
    if "\0" in text:
        raise InvalidError(field, "a NUL character can't be looked for")
    return text


def required(field: str, text: str) -> str:
    """Return a text, checked to be given.

    Raises InvalidError naming the field.
    """
    if not text:
        raise InvalidError(field, "is missing")
    return lookable(field, text)


def to_datetime(field: str, timestamp: Timestamp) -> datetime:
    """Return a time that the database can compare.

    Raises RefusedError for one out of range.
    """
    try:
        return timestamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidError(field, "the time is out of range") from None


def _add_bounds(conditions: Conditions, trace_filter: TraceFilter) -> None:
    for field, condition in _BOUNDS.items():
        if trace_filter.HasField(field):  # type: ignore[arg-type]
            conditions.add(condition, getattr(trace_filter, field))
    for field, condition in _COSTS.items():
        if trace_filter.HasField(field):  # type: ignore[arg-type]
            conditions.add(condition, _picodollars(f"filter.{field}", getattr(trace_filter, field)))


def _values(field: str, values: Sequence[str]) -> list[str]:
    if len(values) > _MAX_VALUES:
        raise InvalidError(f"filter.{field}", f"{len(values)} values; at most {_MAX_VALUES}")
    return [lookable(f"filter.{field}", value) for value in values]


def _picodollars(field: str, dollars: float) -> int:
    if not 0 <= dollars < 9_000_000:
        raise InvalidError(field, "must be a number of at least 0 and below 9,000,000")
    return to_picodollars(dollars)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
