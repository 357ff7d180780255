"""TailTraces: summaries as they come in or change."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from lodestream_proto.v1.query_pb2 import TailTracesRequest, TailTracesResponse

from services.read.query.database import Database
from services.read.query.filters import Conditions, add_filter
from services.read.query.nouns import trace_summary
from services.read.query.scores.of_traces import add_score_conditions
from services.read.query.traces import fetch_traces

_LOOK_SECONDS = 0.2
_OVERLAP = timedelta(seconds=10)  # a slower partition commits what was received before what we have seen
_MOST_AT_ONCE = 500


async def tail_traces(
    database: Database, project_id: str, request: TailTracesRequest
) -> AsyncIterator[TailTracesResponse]:
    """Everything that is received from now on, as long as the caller listens."""
    since: datetime = await database.searches.fetchval("SELECT now()")
    seen: dict[bytes, tuple[datetime, int]] = {}
    while True:
        conditions = Conditions(project_id)
        add_filter(conditions, request.filter)
        add_score_conditions(conditions, request.filter.scores)
        conditions.add("last_received_at > {}", since)
        rows = await fetch_traces(
            database.searches, conditions, order="last_received_at, trace_id", limit=_MOST_AT_ONCE
        )
        for row in rows:
            state = row["last_received_at"], row["span_count"]
            if seen.get(row["trace_id"]) != state:
                seen[row["trace_id"]] = state
                yield TailTracesResponse(trace=trace_summary(row))
        if len(rows) == _MOST_AT_ONCE:
            since = rows[-1]["last_received_at"] - timedelta(microseconds=1)
        elif rows:
            since = max(since, rows[-1]["last_received_at"] - _OVERLAP)
            seen = {trace_id: state for trace_id, state in seen.items() if state[0] > since}
        await asyncio.sleep(_LOOK_SECONDS)
