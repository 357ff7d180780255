"""A ScoreFilter as a condition over the scores table. Columns are ours, values are always parameters."""

from collections.abc import Sequence
from math import isnan
from typing import Any

from lodestream_proto.v1.score_event_pb2 import SCORE_TYPE_CATEGORICAL, ScoreSource
from lodestream_proto.v1.scores_pb2 import ScoreFilter

from services.read.query.filters import Conditions, to_datetime
from shared.runtime.refusal import InvalidError

_MAX_VALUES = 100
_TEXTS = {
    "session_ids": "session_id",
    "run_ids": "run_id",
    "names": "name",
    "authors": "author",
    "environments": "environment",
}
_IDS = {"trace_ids": ("trace_id", 16), "span_ids": ("span_id", 8)}
OF_A_CATEGORY = f"type = {SCORE_TYPE_CATEGORICAL}"
"""A constant, as in the predicate of the index scores_by_category."""


def add_score_filter(conditions: Conditions, wanted: ScoreFilter) -> None:
    """Everything a filter asks for.

    Raises InvalidError naming the field that can't be used.
    """
    for field, (column, size) in _IDS.items():
        if ids := [_id(f"filter.{field}", text, size) for text in few(f"filter.{field}", getattr(wanted, field))]:
            conditions.add(f"{column} = ANY({{}}::bytea[])", ids)
    for field, column in _TEXTS.items():
        if values := texts(f"filter.{field}", getattr(wanted, field)):
            conditions.add(f"{column} = ANY({{}}::text[])", values)
    if sources := few("filter.sources", wanted.sources):
        if unknown := set(sources) - set(ScoreSource.values()):
            raise InvalidError("filter.sources", f"{min(unknown)} is no source")
        conditions.add("source = ANY({}::smallint[])", list(sources))
    if wanted.HasField("scored_from"):
        conditions.add("scored_at >= {}", to_datetime("filter.scored_from", wanted.scored_from))
    if wanted.HasField("scored_before"):
        conditions.add("scored_at < {}", to_datetime("filter.scored_before", wanted.scored_before))
    add_values(conditions, wanted, "filter")


def add_values(conditions: Conditions, wanted: Any, path: str) -> None:
    """Bounds and categories of a ScoreFilter or a ScoreCondition."""
    for field, sign in (("min_value", ">="), ("max_value", "<=")):
        if wanted.HasField(field):
            bound = getattr(wanted, field)
            if isnan(bound):
                raise InvalidError(f"{path}.{field}", "is no number")
            conditions.add(f"number {sign} {{}}", bound)
    if categories := texts(f"{path}.categories", wanted.categories):
        conditions.add(f"{OF_A_CATEGORY} AND label = ANY({{}}::text[])", categories)


def texts(field: str, values: Sequence[str]) -> list[str]:
    """Texts that the database can look for.

    Raises InvalidError.
    """
    if any("\0" in value for value in values):
        raise InvalidError(field, "a NUL character can't be looked for")
    return list(few(field, values))


def few(field: str, values: Sequence[Any]) -> Sequence[Any]:
    """As many values as one filter may have.

    Raises InvalidError.
    """
    if len(values) > _MAX_VALUES:
        raise InvalidError(field, f"{len(values)} values; at most {_MAX_VALUES}")
    return values


def _id(field: str, text: str, size: int) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != size or len(text) != 2 * size:
        raise InvalidError(field, f"{text[:40]!r} is not {2 * size} hex digits")
    return found
