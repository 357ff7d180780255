"""ListDatasets: a page of datasets as they are, by name."""

from lodestream_proto.v1.datasets_pb2 import ListDatasetsRequest, ListDatasetsResponse

from services.read.query.database import Database
from services.read.query.datasets import messages
from services.read.query.datasets.selected import QUERIES
from services.read.query.filters import Conditions, containing
from services.read.query.paging import fetch_page, from_token, page_size, snapshot, to_token
from services.read.query.traces import Statement

_LIST_DATASETS = QUERIES["list_datasets"]


async def list_datasets(database: Database, project_id: str, request: ListDatasetsRequest) -> ListDatasetsResponse:
    """A page.

    Raises InvalidError naming the field that can't be used.
    """
    statement, size = list_statement(project_id, request), page_size(request.page_size)
    async with snapshot(database) as connection:
        rows, more = await fetch_page(connection, statement.sql, statement.parameters, size)
    return ListDatasetsResponse(
        datasets=[messages.dataset(row, row["version"], row) for row in rows],
        next_page_token=to_token(_bound(request), [rows[-1]["name"]]) if more else "",
    )


def list_statement(project_id: str, request: ListDatasetsRequest) -> Statement:
    """A page and one row more.

    Raises InvalidError naming the field that can't be used.
    """
    conditions = Conditions(project_id)
    if request.name_contains:
        # The database's collation knows the case of more letters than the column's does.
        conditions.add('name COLLATE "default" ILIKE {}', containing(request.name_contains, "name_contains"))
    if not request.with_archived:
        conditions.add_raw("NOT archived")
    if last := from_token(_bound(request), request.page_token, str):
        conditions.add("name > {}", last[0])
    limit = conditions.parameter(page_size(request.page_size) + 1)
    return Statement(_LIST_DATASETS.format(conditions=conditions.sql(), limit=limit), conditions.parameters)


def _bound(request: ListDatasetsRequest) -> bytes:
    """What must be the same from page to page."""
    kept = ListDatasetsRequest(name_contains=request.name_contains, with_archived=request.with_archived)
    return kept.SerializeToString(deterministic=True)
