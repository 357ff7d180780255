"""GetStatus: how far each projection has come, as far as that is a project's business."""

from collections import defaultdict
from collections.abc import Mapping

import asyncpg
from lodestream_proto.v1 import query_pb2 as pb

from services.read.query.database import Database
from services.read.query.freshness import PROJECTIONS, LogEnds, completeness
from services.read.query.traces import SQL
from shared.read_model.postgres import load_sql

_GET_STATUS = load_sql(SQL / "get_status.sql")
_DEAD_LETTERS = """
SELECT count(*) FROM dead_letters WHERE project_id = $1 AND redriven_at IS NULL AND projection NOT LIKE '%@%'
"""


async def get_status(
    log_ends: LogEnds, database: Database, project_id: str, _request: pb.GetStatusRequest
) -> pb.GetStatusResponse:
    """Every projection's state and lag, and the project's dead letters.

    No offsets and no reasons: those are about all projects, and their operator sees them in Postgres and the metrics.
    """
    positions: dict[tuple[str, str], dict[tuple[str, int], asyncpg.Record]] = defaultdict(dict)
    for topic in dict.fromkeys(topic for topic, _ in log_ends.ends):
        positions[PROJECTIONS[topic], topic]  # one that has not begun has all of the log before it
    for row in await database.searches.fetch(_GET_STATUS):
        positions[row["projection"], row["topic"]][row["topic"], row["partition"]] = row
    return pb.GetStatusResponse(
        projections=[_status(log_ends, projection, topic, rows) for (projection, topic), rows in positions.items()],
        dead_letters=await database.searches.fetchval(_DEAD_LETTERS, project_id),
    )


def _status(
    log_ends: LogEnds, projection: str, topic: str, rows: Mapping[tuple[str, int], asyncpg.Record]
) -> pb.ProjectionStatus:
    fresh = completeness(log_ends, rows, (topic,))
    state = pb.PROJECTION_STATE_BEHIND if fresh.lag_ms else pb.PROJECTION_STATE_CURRENT
    if any(row["halted_reason"] for row in rows.values()):
        state = pb.PROJECTION_STATE_HALTED
    return pb.ProjectionStatus(projection=projection, topic=topic, state=state, freshness=fresh)
