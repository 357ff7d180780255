"""ListExperiments: a page of runs, newest first."""

from datetime import datetime

from lodestream_proto.v1.experiments_pb2 import ExperimentState, ListExperimentsRequest, ListExperimentsResponse

from services.read.query.database import Database
from services.read.query.datasets.selected import find_dataset
from services.read.query.experiments.runs import messages_of
from services.read.query.experiments.summaries import SQL, Summaries
from services.read.query.filters import Conditions, containing
from services.read.query.paging import fetch_page, fitting_in_a_page, from_token, page_size, snapshot, to_token
from services.read.query.traces import Statement
from shared.read_model.postgres import load_sql
from shared.runtime.refusal import InvalidError

_LIST_RUNS = load_sql(SQL / "list_runs.sql")


async def list_experiments(
    summaries: Summaries, database: Database, project_id: str, request: ListExperimentsRequest
) -> ListExperimentsResponse:
    """A page.

    Raises RefusedError: a field can't be used, or the project has no dataset of that name.
    """
    size = page_size(request.page_size)
    async with snapshot(database) as connection:
        dataset_id = None
        if request.dataset_name:
            dataset = await find_dataset(connection, project_id, request.dataset_name, field="dataset_name")
            dataset_id = dataset["dataset_id"]
        statement = list_statement(project_id, request, dataset_id=dataset_id)
        rows, more = await fetch_page(connection, statement.sql, statement.parameters, size)
        runs = await messages_of(connection, project_id, rows, summaries)
    fitting = fitting_in_a_page(runs)
    token = ""
    if more or fitting < len(runs):
        rows, runs = rows[:fitting], runs[:fitting]
        token = to_token(_bound(request), [rows[-1]["requested_at"], rows[-1]["run_id"]])
    return ListExperimentsResponse(runs=runs, next_page_token=token)


def list_statement(project_id: str, request: ListExperimentsRequest, *, dataset_id: str | None = None) -> Statement:
    """A page and one row more.

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
    if last := from_token(_bound(request), request.page_token, datetime, str):
        requested_at, run_id = conditions.parameter(last[0]), conditions.parameter(last[1])
        conditions.add_raw(f"(requested_at, run_id) < ({requested_at}, {run_id})")
    limit = conditions.parameter(page_size(request.page_size) + 1)
    return Statement(_LIST_RUNS.format(conditions=conditions.sql(), limit=limit), conditions.parameters)


def _bound(request: ListExperimentsRequest) -> bytes:
    """What must be the same from page to page."""
    kept = ListExperimentsRequest(
        dataset_name=request.dataset_name, name_contains=request.name_contains, states=request.states
    )
    return kept.SerializeToString(deterministic=True)
