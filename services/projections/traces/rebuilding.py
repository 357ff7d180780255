"""The traces read model, as it is rebuilt: the same projection, writing into another schema."""

import asyncpg

from services.projections.traces.batch import FoldedBatch
from services.projections.traces.partitions import Partitions
from services.projections.traces.projection import TracesProjection
from services.projections.traces.tables import NAME, prepare_connection
from shared.event_log.topics import TRACES
from shared.projection.rebuilding.rebuildable import Rebuildable, Table

_TABLES = (
    Table(
        name="spans",
        key=("project_id", "trace_id", "span_id", "start_day"),
        partition="block_partition",
        day="start_day",
    ),
    Table(
        name="span_blocks",
        key=("project_id", "received_day", "partition", "offset"),
        partition="partition",
        day="received_day",
        heavy=("otlp_request",),
    ),
    Table(
        name="traces",
        key=("project_id", "trace_id"),
        partition="-1",
        day="start_at::date",
        not_of_log=("changed_by",),
    ),
    Table(name="sessions", key=("project_id", "session_id"), partition="-1", day="start_at::date"),
)
_READ_BY_TRIGGERS = {
    "traces_by_session",
    "traces_by_session_activity",
    "traces_by_session_end",
    "traces_by_session_user",
    "traces_by_session_environment",
}


def _open(pool: asyncpg.Pool, name: str) -> TracesProjection:
    return TracesProjection(Partitions(pool), name=name)


TRACES_READ_MODEL: Rebuildable[FoldedBatch] = Rebuildable(
    name=NAME,
    topic=TRACES,
    tables=_TABLES,
    indexes_at_once=_READ_BY_TRIGGERS,
    open=_open,
    prepare_connection=prepare_connection,
)
