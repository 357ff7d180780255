"""GetStatus: how far each projection has come."""

from collections import defaultdict

from lodestream_proto.v1.query_pb2 import GetStatusRequest, GetStatusResponse, PartitionStatus, ProjectionStatus

from services.read.query.database import Database
from services.read.query.freshness import PROJECTIONS, LogEnds
from services.read.query.traces import SQL
from shared.read_model.postgres import load_sql

_GET_STATUS = load_sql(SQL / "get_status.sql")
_DEAD_LETTERS = """
SELECT
    (SELECT count(*) FROM dead_letters
    WHERE project_id = $1 AND redriven_at IS NULL AND projection NOT LIKE '%@%')
    + (SELECT coalesce(sum(letters), 0)::bigint FROM dead_letter_overflow
    WHERE project_id = $1 AND projection NOT LIKE '%@%')
"""


async def get_status(
    log_ends: LogEnds, database: Database, project_id: str, _request: GetStatusRequest
) -> GetStatusResponse:
    """Every projection's partitions, and the project's dead letters."""
    partitions: dict[tuple[str, str], dict[int, PartitionStatus]] = defaultdict(dict)
    # A projection that has not begun with a partition has all of it before it.
    for topic, number in log_ends.ends:
        partitions[PROJECTIONS[topic], topic][number] = PartitionStatus(partition=number)
    for row in await database.searches.fetch(_GET_STATUS):
        partitions[row["projection"], row["topic"]][row["partition"]] = PartitionStatus(
            partition=row["partition"], next_offset=row["next_offset"], halted_reason=row["halted_reason"] or ""
        )
    for (_, topic), its in partitions.items():
        for number, status in its.items():
            status.end_offset = max(log_ends.ends.get((topic, number), 0), status.next_offset)
    return GetStatusResponse(
        projections=[
            ProjectionStatus(projection=projection, topic=topic, partitions=[its[number] for number in sorted(its)])
            for (projection, topic), its in partitions.items()
        ],
        dead_letters=await database.searches.fetchval(_DEAD_LETTERS, project_id),
    )
