"""GetExperiment and ListExperiments: runs as they were requested, how far they are, and what their items come to."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg
from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested, ExperimentUsage, ItemEvaluation
from lodestream_proto.v1.experiments_pb2 import (
    ExperimentRun,
    ExperimentState,
    GetExperimentRequest,
    GetExperimentResponse,
    ListExperimentsRequest,
    ListExperimentsResponse,
)

from services.read.query.database import Database
from services.read.query.datasets import find_dataset
from services.read.query.experiments.summaries import QUERIES, Row, Summaries, Summary
from services.read.query.filters import Conditions, Statement, containing, required
from services.read.query.messages import timestamp
from services.read.query.paging import PageRequest, fetch_page, fitting_in_a_page, snapshot
from shared.runtime.refusal import InvalidError, NotFoundError

_GET_RUNS = QUERIES["get_runs"]
_FIND_RUN_BY_NAME = QUERIES["find_run_by_name"]
_LIST_RUNS = QUERIES["list_runs"]
_MAX_PICODOLLARS = 2**64 - 1


async def find_run(connection: asyncpg.Connection, project_id: str, run_id: str, *, field: str = "run_id") -> Row:
    """Return a run's row of get_runs; `field` is the request's that names the run.

    Raises RefusedError: NOT_FOUND, naming the run meant when it is a name; or the id can't be one.
    """
    row: Row | None = await connection.fetchrow(_GET_RUNS, project_id, [required(field, run_id)])
    if row is None:
        named = await connection.fetchval(_FIND_RUN_BY_NAME, project_id, run_id)
        raise NotFoundError(f"experiment run {run_id!r}" + (f": that is the name of run {named!r}" if named else ""))
    return row


async def messages_of(
    connection: asyncpg.Connection, project_id: str, rows: Sequence[Row], summaries: Summaries
) -> list[ExperimentRun]:
    """Return the messages of rows of get_runs or list_runs that were read in the same snapshot."""
    summary_by_run = await summaries.of_runs(connection, project_id, rows)
    runs = []
    for row in rows:
        request = ExperimentRequested.FromString(row["request"])
        total = await summaries.items_total(connection, project_id, row, request)
        runs.append(_message(row, request, total, summary_by_run[row["run_id"]]))
    return runs


async def get_experiment(
    summaries: Summaries, database: Database, project_id: str, request: GetExperimentRequest
) -> GetExperimentResponse:
    """Return one run.

    Raises RefusedError: the project has no such run.
    """
    async with snapshot(database) as connection:
        row = await find_run(connection, project_id, request.run_id)
        (run,) = await messages_of(connection, project_id, [row], summaries)
    return GetExperimentResponse(run=run)


async def list_experiments(
    summaries: Summaries, database: Database, project_id: str, request: ListExperimentsRequest
) -> ListExperimentsResponse:
    """Return a page of runs, newest first.

    Raises RefusedError: a field can't be used, or the project has no dataset of that name.
    """
    page = _page(request)
    async with snapshot(database) as connection:
        dataset_id = None
        if request.dataset_name:
            dataset = await find_dataset(connection, project_id, request.dataset_name, field="dataset_name")
            dataset_id = dataset["dataset_id"]
        statement = list_statement(project_id, request, dataset_id=dataset_id)
        rows, more = await fetch_page(connection, statement, page.size)
        runs = await messages_of(connection, project_id, rows, summaries)
    fitting = fitting_in_a_page(runs)
    token = ""
    if more or fitting < len(runs):
        rows, runs = rows[:fitting], runs[:fitting]
        token = page.token_after(rows[-1]["requested_at"], rows[-1]["run_id"])
    return ListExperimentsResponse(runs=runs, next_page_token=token)


def list_statement(project_id: str, request: ListExperimentsRequest, *, dataset_id: str | None = None) -> Statement:
    """Return the statement of a page of runs.

    Raises InvalidError naming the field that can't be used.
    """
    conditions = Conditions(project_id)
    if dataset_id is not None:
        conditions.add("dataset_id = {}", dataset_id)
    if request.name_contains:
        # The database's collation knows the case of more letters than the column's does.
        conditions.add('name COLLATE "default" ILIKE {}', containing(request.name_contains, "name_contains"))
    if request.states:
        if unknown := set(request.states) - set(ExperimentState.values()):
            raise InvalidError("states", f"{min(unknown)} is no state")
        conditions.add("state = ANY({}::smallint[])", sorted(set(request.states)))
    page = _page(request)
    if page.last:
        requested_at, run_id = map(conditions.parameter, page.last)
        conditions.add_raw(f"(requested_at, run_id) < ({requested_at}, {run_id})")
    sql = _LIST_RUNS.format(conditions=conditions.sql(), limit=page.limit(conditions))
    return Statement(sql, conditions.parameters)


def _page(request: ListExperimentsRequest) -> PageRequest:
    return PageRequest.of(request, datetime, str)


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
        run.usage.cost_picodollars = min(int(row["cost_picodollars"]), _MAX_PICODOLLARS)
    return run
