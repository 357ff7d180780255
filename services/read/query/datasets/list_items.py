"""ListItems: a dataset's items at one version, in the order in which they were first recorded."""

from lodestream_proto.v1.datasets_pb2 import DatasetSelector, ListItemsRequest, ListItemsResponse

from services.read.query.database import Database
from services.read.query.datasets import messages
from services.read.query.datasets.selected import QUERIES, Selected, select
from services.read.query.filters import Conditions, lookable
from services.read.query.paging import MAX_SIZE, fetch_page, from_token, page_size, snapshot, to_token
from services.read.query.traces import Statement
from shared.runtime.refusal import InvalidError

_LIST_ITEMS = QUERIES["list_items"]


async def list_items(database: Database, project_id: str, request: ListItemsRequest) -> ListItemsResponse:
    """A page. All pages show the version that the first one did, whatever has changed since.

    Raises RefusedError: a field can't be used, or the project has, or had then, no such dataset.
    """
    size, last = page_size(request.page_size), _last(request)
    selector = DatasetSelector(name=request.dataset.name) if last else request.dataset
    async with snapshot(database) as connection:
        selected = await select(connection, project_id, selector)
        if last:
            selected = _at_version_of_first_page(selected, last[0])
        statement = list_statement(project_id, request, selected)
        rows, more = await fetch_page(connection, statement.sql, statement.parameters, size)
    return ListItemsResponse(
        items=[messages.item(row) for row in rows],
        next_page_token=to_token(_bound(request), [selected.version, rows[-1]["first_version"]]) if more else "",
        version=selected.version,
    )


def list_statement(project_id: str, request: ListItemsRequest, selected: Selected) -> Statement:
    """A page and one row more.

    Raises InvalidError naming the field that can't be used.
    """
    conditions = Conditions(project_id, selected.dataset_id)
    at_version(conditions, selected.version, is_present=selected.is_present)
    if not request.with_archived:
        conditions.add_raw("NOT items.archived")
    for field, condition in {
        "splits": "items.splits && {}::text[]",
        "item_ids": "items.item_id = ANY({}::text[])",
    }.items():
        values = [lookable(field, value) for value in getattr(request, field)]
        if len(values) > MAX_SIZE:
            raise InvalidError(field, f"{len(values)} values; at most {MAX_SIZE}")
        if values:
            conditions.add(condition, values)
    if last := _last(request):
        conditions.add("items.first_version > {}", last[1])
    limit = conditions.parameter(page_size(request.page_size) + 1)
    return Statement(_LIST_ITEMS.format(conditions=conditions.sql(), limit=limit), conditions.parameters)


def at_version(conditions: Conditions, version: int, *, is_present: bool) -> None:
    """Only what the dataset's items were at the version: each has one row that holds then.

    `is_present` says that it is how the dataset is in the same snapshot.
    """
    if is_present:
        conditions.add_raw("items.until_version IS NULL")  # has an index of its own
    else:
        at = conditions.parameter(version)
        conditions.add_raw(f"items.version <= {at} AND (items.until_version IS NULL OR items.until_version > {at})")


def _at_version_of_first_page(present: Selected, version: int) -> Selected:
    if not 0 < version <= present.version:
        raise InvalidError("page_token", f"the dataset never was at version {version}")
    return Selected(present.dataset, version)


def _last(request: ListItemsRequest) -> tuple[int, int] | None:
    """Of the last page: its version, and where it ended."""
    last = from_token(_bound(request), request.page_token, int, int)
    return (last[0], last[1]) if last else None


def _bound(request: ListItemsRequest) -> bytes:
    """What must be the same from page to page."""
    kept = ListItemsRequest(
        dataset=request.dataset, splits=request.splits, item_ids=request.item_ids, with_archived=request.with_archived
    )
    return kept.SerializeToString(deterministic=True)
