"""Runs as messages: as they were asked for, how far they are, and what their items come to."""

from collections.abc import Sequence

import asyncpg
from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested, ExperimentUsage, ItemEvaluation
from lodestream_proto.v1.experiments_pb2 import ExperimentRun

from services.read.query.experiments.summaries import SQL, Row, Summaries, Summary
from services.read.query.filters import required
from services.read.query.nouns import timestamp
from shared.read_model.postgres import load_sql
from shared.runtime.refusal import NotFoundError

_GET_RUNS = load_sql(SQL / "get_runs.sql")
_NAMED = "SELECT run_id FROM experiment_runs WHERE project_id = $1 AND name = $2 ORDER BY requested_at DESC LIMIT 1"
_MOST = 2**64 - 1


async def find_run(connection: asyncpg.Connection, project_id: str, run_id: str, *, field: str = "run_id") -> Row:
    """A row of get_runs.sql.

    Raises RefusedError: NOT_FOUND, naming the run meant when it is a name; or the id can't be one.
    """
    row: Row | None = await connection.fetchrow(_GET_RUNS, project_id, [required(field, run_id)])
    if row is None:
        named = await connection.fetchval(_NAMED, project_id, run_id)
        raise NotFoundError(f"experiment run {run_id!r}" + (f": that is the name of run {named!r}" if named else ""))
    return row


async def messages_of(
    connection: asyncpg.Connection, project_id: str, rows: Sequence[Row], summaries: Summaries
) -> list[ExperimentRun]:
    """Rows of get_runs.sql or list_runs.sql that were read in the same snapshot, as messages."""
    known = await summaries.of_runs(connection, project_id, rows)
    runs = []
    for row in rows:
        request = ExperimentRequested.FromString(row["request"])
        total = await summaries.items_total(connection, project_id, row, request)
        runs.append(_message(row, request, total, known[row["run_id"]]))
    return runs


def _message(row: Row, request: ExperimentRequested, items_total: int, summary: Summary) -> ExperimentRun:
    run = ExperimentRun(
        request=request,
        dataset_name=row["dataset_name"] or "",
        state=row["state"],
        reason=row["reason"],
        requested_at=timestamp(row["requested_at"]),
        ended_at=timestamp(row["ended_at"]) if row["ended_at"] else None,
        items_total=items_total,
        items_finished=row["items_finished"],
        items_failed=row["items_failed"],
        usage=ExperimentUsage(input_tokens=row["input_tokens"], output_tokens=row["output_tokens"]),
        latency_p50_us=summary.latency_p50_us,
        latency_p95_us=summary.latency_p95_us,
        evaluations=summary.evaluations,
        run_evaluations=map(ItemEvaluation.FromString, row["run_evaluations"]),
    )
    if summary.is_priced:
        run.usage.cost_picodollars = min(int(row["cost_picodollars"]), _MOST)
    return run
