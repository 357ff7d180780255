"""What a list can be ordered by, and going on where a page ended. Pure.

A sort's keys run all one way and end with one that is unique, so that an index read forwards or backwards serves it and
"behind this row" is one comparison of rows. The indexes are in migrations/traces/0003_pre_read_indexes.sql.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lodestream_proto.v1.query_pb2 import (
    TRACE_SORT_COST,
    TRACE_SORT_LATENCY,
    TRACE_SORT_NAME,
    TRACE_SORT_SCORE,
    TRACE_SORT_START_TIME,
    TRACE_SORT_TOKENS,
)

from services.read.query.filters import LATENCY, NAME, Conditions
from services.read.query.paging import from_token, to_token


@dataclass(frozen=True, slots=True)
class Sort:
    """Expressions, never null, the last one unique, each with the column of a row that it is in and its type."""

    keys: tuple[tuple[str, str, type], ...]

    def order(self, *, ascending: bool) -> str:
        """ORDER BY this."""
        return ", ".join(f"{expression} {'ASC' if ascending else 'DESC'}" for expression, _, _ in self.keys)

    def token(self, request: bytes, row: Mapping[str, Any]) -> str:
        """The token of the page after this row; `request` is what must not change."""
        return to_token(request, [row[column] for _, column, _ in self.keys])

    def go_on(self, conditions: Conditions, request: bytes, token: str, *, ascending: bool) -> None:
        """Only what is behind the token's row; all when there is no token.

        Raises RefusedError for what is no token of this request.
        """
        kinds = [kind for _, _, kind in self.keys]
        last = from_token(request, token, *kinds)
        if last is None:
            return
        values = [conditions.parameter(key) for key in last]
        expressions = [expression for expression, _, _ in self.keys]
        conditions.add_raw(f"({', '.join(expressions)}) {'>' if ascending else '<'} ({', '.join(values)})")


_ID = ("trace_id", "trace_id", bytes)
_START = ("start_at", "start_at", datetime)
BY_START = Sort((_START, _ID))
BY_SCORE = Sort((("ranked_score", "ranked_score", float), ("scored_trace_id", "trace_id", bytes)))
"""Needs the join with what scores/of_traces.py ranks; the index is in migrations/scores/0001_pre_scores.sql."""
TRACE_SORTS: Mapping[int, Sort] = {
    TRACE_SORT_START_TIME: BY_START,
    TRACE_SORT_LATENCY: Sort(((LATENCY, "known_latency_us", int), _ID)),
    TRACE_SORT_COST: Sort((("cost_picos", "cost_picos", int), _ID)),
    TRACE_SORT_TOKENS: Sort((("total_tokens", "total_tokens", int), _ID)),
    TRACE_SORT_NAME: Sort(((NAME, "known_name", str), _START, _ID)),
    TRACE_SORT_SCORE: BY_SCORE,
}
BY_ACTIVITY = Sort((("last_start_at", "last_start_at", datetime), ("session_id", "session_id", str)))
"""Of sessions."""


def page_of(rows: Sequence[Any], size: int, sort: Sort, request: bytes) -> tuple[Sequence[Any], str]:
    """The rows to show and the next page's token, of one row more than `size` where there are more."""
    return rows[:size], sort.token(request, rows[size - 1]) if len(rows) > size else ""
