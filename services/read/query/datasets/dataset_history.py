"""DatasetHistory: every change of a dataset, or of one of its items, newest first; also of an archived one."""

import asyncpg
from lodestream_proto.v1.datasets_pb2 import DatasetChange, DatasetHistoryRequest, DatasetHistoryResponse

from services.read.query.database import Database
from services.read.query.datasets import messages
from services.read.query.datasets.selected import QUERIES, find_dataset
from services.read.query.filters import Conditions, lookable
from services.read.query.nouns import timestamp
from services.read.query.paging import fetch_page, from_token, page_size, snapshot, to_token
from services.read.query.traces import Statement
from shared.runtime.refusal import NotFoundError

_DATASET_HISTORY = QUERIES["dataset_history"]


async def dataset_history(
    database: Database, project_id: str, request: DatasetHistoryRequest
) -> DatasetHistoryResponse:
    """A page of changes.

    Raises RefusedError: the project has no such dataset, the dataset never had such an item, or a field can't be used.
    """
    size = page_size(request.page_size)
    async with snapshot(database) as connection:
        dataset = await find_dataset(connection, project_id, request.name, field="name")
        statement = history_statement(project_id, dataset["dataset_id"], request)
        rows, more = await fetch_page(connection, statement.sql, statement.parameters, size)
    if not rows and not request.page_token:
        raise NotFoundError(f"item {request.item_id!r} in dataset {request.name!r}, and never had")
    return DatasetHistoryResponse(
        changes=[_change(row) for row in rows],
        next_page_token=to_token(_bound(request), [rows[-1]["change_version"]]) if more else "",
    )


def history_statement(project_id: str, dataset_id: str, request: DatasetHistoryRequest) -> Statement:
    """A page and one row more.

    Raises InvalidError naming the field that can't be used.
    """
    conditions = Conditions(project_id, dataset_id)
    if request.item_id:
        conditions.add("item_id = {}", lookable("item_id", request.item_id))
    if last := from_token(_bound(request), request.page_token, int):
        conditions.add("version < {}", last[0])
    limit = conditions.parameter(page_size(request.page_size) + 1)
    return Statement(_DATASET_HISTORY.format(conditions=conditions.sql(), limit=limit), conditions.parameters)


def _change(row: asyncpg.Record) -> DatasetChange:
    return DatasetChange(
        version=row["change_version"],
        kind=row["kind"],
        item=messages.item(row) if row["item_id"] is not None else None,
        author=row["change_author"],
        changed_at=timestamp(row["change_at"]),
    )


def _bound(request: DatasetHistoryRequest) -> bytes:
    """What must be the same from page to page."""
    return DatasetHistoryRequest(name=request.name, item_id=request.item_id).SerializeToString(deterministic=True)
