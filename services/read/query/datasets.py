"""DatasetService's reads: datasets as they are and as they were at any version, their items, and their history."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import asyncpg
from lodestream_proto.v1 import datasets_pb2 as pb
from lodestream_proto.v1.datasets_pb2_grpc import DatasetServiceServicer

from services.read.query.database import Database
from services.read.query.filters import Conditions, Statement, containing, lookable, required, to_datetime
from services.read.query.messages import timestamp
from services.read.query.paging import MAX_SIZE, PageRequest, fetch_page, snapshot
from services.read.query.read_context import ReadContext
from shared.event_log.topics import EXPERIMENTS
from shared.runtime.refusal import Context, InvalidError, NotFoundError
from shared.storage.named_queries import load_queries

_QUERIES = load_queries(Path(__file__).with_suffix(".sql"))
_FIND_DATASET, _LIST_NAMES = _QUERIES["find_dataset"], _QUERIES["list_names"]
_VERSION_AT = _QUERIES["version_at"]
_GET_DATASET = _QUERIES["get_dataset"]
_LIST_DATASETS = _QUERIES["list_datasets"]
_LIST_ITEMS = _QUERIES["list_items"]
_DATASET_HISTORY = _QUERIES["dataset_history"]
_TOPICS = (EXPERIMENTS,)
_HINTS = 3
_MAX_VERSION = 2**63 - 1
Row = Mapping[str, Any]


class DatasetService(DatasetServiceServicer):
    """The reads of datasets; the methods that change them are the gateway's and are not served here.

    What every read may be refused with is said at QueryService.
    """

    def __init__(self, read_context: ReadContext) -> None:
        self._read_context = read_context

    async def GetDataset(self, request: pb.GetDatasetRequest, context: Context) -> pb.GetDatasetResponse:  # noqa: N802 - gRPC's name
        """Return a dataset as it is, or was at a version.

        Args:
            request: The name, and a version or an instant.
            context: The call.

        Returns:
            The description, the number of items and the splits.

        Raises:
            InvalidError: The name or the version is wrong.
            NotFoundError: The project has no such dataset, or it had none at that version.
        """
        return await self._read_context.run(get_dataset, request, context, _TOPICS)

    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: Context) -> pb.ListDatasetsResponse:  # noqa: N802
        """Return datasets by name.

        Args:
            request: A part of the name, whether to list archived ones; `page_size` (50 by default, at most 1,000) and
                `page_token`.
            context: The call.

        Returns:
            A page of datasets, and a token when there are more.

        Raises:
            InvalidError: A field or the token is wrong.
        """
        return await self._read_context.run(list_datasets, request, context, _TOPICS)

    async def ListItems(self, request: pb.ListItemsRequest, context: Context) -> pb.ListItemsResponse:  # noqa: N802
        """Return the items of a dataset at a version, in the order in which they were first recorded.

        Args:
            request: The dataset, splits and item ids (none: all), whether to list archived ones; `page_size` (50 by
                default, at most 1,000) and `page_token`.
            context: The call.

        Returns:
            A page of items, the version, and a token when there are more.

        Raises:
            InvalidError: A field or the token is wrong.
            NotFoundError: The project has no such dataset or version.
        """
        return await self._read_context.run(list_items, request, context, _TOPICS)

    async def DatasetHistory(  # noqa: N802
        self, request: pb.DatasetHistoryRequest, context: Context
    ) -> pb.DatasetHistoryResponse:
        """Return the changes of a dataset, or of one of its items, the newest first.

        Args:
            request: The name, optionally an item id, `page_size` (50 by default, at most 1,000) and `page_token`.
            context: The call.

        Returns:
            A page of changes, and a token when there are more.

        Raises:
            InvalidError: A field or the token is wrong.
            NotFoundError: The project has no such dataset, or it never had the item.
        """
        return await self._read_context.run(dataset_history, request, context, _TOPICS)


@dataclass(frozen=True, slots=True)
class SelectedDataset:
    """A dataset's row, and the version that a request selects."""

    dataset: asyncpg.Record
    version: int

    @property
    def dataset_id(self) -> str:
        """The dataset's id."""
        return str(self.dataset["dataset_id"])

    @property
    def is_present(self) -> bool:
        """Whether this is how the dataset is now, in the transaction that read it."""
        return self.version == int(self.dataset["version"])


async def get_dataset(database: Database, project_id: str, request: pb.GetDatasetRequest) -> pb.GetDatasetResponse:
    """Return a dataset as it is, or as it was at a version or an instant.

    Raises RefusedError: the selector can't be used, or the project has (or had then) nothing that it selects.
    """
    async with snapshot(database) as connection:
        selected = await _select(connection, project_id, request.dataset)
        row = await connection.fetchrow(_GET_DATASET, project_id, selected.dataset_id, selected.version)
    return pb.GetDatasetResponse(dataset=_dataset_message(selected.dataset, selected.version, row))


async def list_datasets(
    database: Database, project_id: str, request: pb.ListDatasetsRequest
) -> pb.ListDatasetsResponse:
    """Return a page of datasets as they are, by name.

    Raises InvalidError naming the field that can't be used.
    """
    statement, page = list_datasets_statement(project_id, request), _datasets_page(request)
    async with snapshot(database) as connection:
        rows, more = await fetch_page(connection, statement, page.size)
    return pb.ListDatasetsResponse(
        datasets=[_dataset_message(row, row["version"], row) for row in rows],
        next_page_token=page.token_after(rows[-1]["name"]) if more else "",
    )


def list_datasets_statement(project_id: str, request: pb.ListDatasetsRequest) -> Statement:
    """Return the statement of a page of datasets.

    Raises InvalidError naming the field that can't be used.
    """
    conditions, page = Conditions(project_id), _datasets_page(request)
    if request.name_contains:
        # The database's collation knows the case of more letters than the column's does.
        conditions.add('name COLLATE "default" ILIKE {}', containing(request.name_contains, "name_contains"))
    if not request.with_archived:
        conditions.add_raw("NOT archived")
    if page.last:
        conditions.add("name > {}", page.last[0])
    limit = page.limit(conditions)
    return Statement(_LIST_DATASETS.format(conditions=conditions.sql(), limit=limit), conditions.parameters)


async def list_items(database: Database, project_id: str, request: pb.ListItemsRequest) -> pb.ListItemsResponse:
    """Return a page of a dataset's items at one version, in the order in which they were first recorded.

    All pages show the version that the first one did, whatever has changed since.

    Raises RefusedError: a field can't be used, or the project has (or had then) no such dataset.
    """
    page = _items_page(request)
    selector = pb.DatasetSelector(name=request.dataset.name) if page.last else request.dataset
    async with snapshot(database) as connection:
        selected = await _select(connection, project_id, selector)
        if page.last:
            selected = _at_version_of_first_page(selected, page.last[0])
        statement = list_items_statement(project_id, request, selected)
        rows, more = await fetch_page(connection, statement, page.size)
    return pb.ListItemsResponse(
        items=[item_message(row) for row in rows],
        next_page_token=page.token_after(selected.version, rows[-1]["first_version"]) if more else "",
        version=selected.version,
    )


def list_items_statement(project_id: str, request: pb.ListItemsRequest, selected: SelectedDataset) -> Statement:
    """Return the statement of a page of items.

    Raises InvalidError naming the field that can't be used.
    """
    conditions, page = Conditions(project_id, selected.dataset_id), _items_page(request)
    add_version(conditions, selected.version, is_present=selected.is_present)
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
    if page.last:
        conditions.add("items.first_version > {}", page.last[1])
    limit = page.limit(conditions)
    return Statement(_LIST_ITEMS.format(conditions=conditions.sql(), limit=limit), conditions.parameters)


def add_version(conditions: Conditions, version: int, *, is_present: bool) -> None:
    """Add that `items` are as they were at a version of their dataset: each has one row that holds then.

    `is_present` says that this is how the dataset is in the same snapshot.
    """
    if is_present:
        conditions.add_raw("items.until_version IS NULL")  # has an index of its own
    else:
        at = conditions.parameter(version)
        conditions.add_raw(f"items.version <= {at} AND (items.until_version IS NULL OR items.until_version > {at})")


async def dataset_history(
    database: Database, project_id: str, request: pb.DatasetHistoryRequest
) -> pb.DatasetHistoryResponse:
    """Return a page of the changes of a dataset, or of one of its items, newest first; also of an archived one.

    Raises RefusedError: the project has no such dataset, the dataset never had such an item, or a field can't be used.
    """
    page = _history_page(request)
    async with snapshot(database) as connection:
        dataset = await find_dataset(connection, project_id, request.name, field="name")
        statement = dataset_history_statement(project_id, dataset["dataset_id"], request)
        rows, more = await fetch_page(connection, statement, page.size)
    if not rows and not request.page_token:
        raise NotFoundError(f"item {request.item_id!r} in dataset {request.name!r}, and never had")
    return pb.DatasetHistoryResponse(
        changes=[_change_message(row) for row in rows],
        next_page_token=page.token_after(rows[-1]["change_version"]) if more else "",
    )


def dataset_history_statement(project_id: str, dataset_id: str, request: pb.DatasetHistoryRequest) -> Statement:
    """Return the statement of a page of changes.

    Raises InvalidError naming the field that can't be used.
    """
    conditions, page = Conditions(project_id, dataset_id), _history_page(request)
    if request.item_id:
        conditions.add("item_id = {}", lookable("item_id", request.item_id))
    if page.last:
        conditions.add("version < {}", page.last[0])
    limit = page.limit(conditions)
    return Statement(_DATASET_HISTORY.format(conditions=conditions.sql(), limit=limit), conditions.parameters)


async def find_dataset(connection: asyncpg.Connection, project_id: str, name: str, *, field: str) -> asyncpg.Record:
    """Return a row of find_dataset; `field` is the request's that names the dataset.

    Raises RefusedError: NOT_FOUND, naming what there is instead.
    """
    row = await connection.fetchrow(_FIND_DATASET, project_id, required(field, name))
    if row is None:
        names = [each["name"] for each in await connection.fetch(_LIST_NAMES, project_id)]
        raise NotFoundError(f"dataset {name!r}: {_alternatives(name, names)}")
    return row


def item_message(row: Row) -> pb.DatasetItem:
    """Return the message of a row of dataset_items."""
    return pb.DatasetItem(
        item_id=row["item_id"],
        input_json=row["input"],
        expected_output_json=row["expected_output"],
        metadata_json=row["metadata"],
        source_trace_id=(row["source_trace_id"] or b"").hex(),
        source_span_id=(row["source_span_id"] or b"").hex(),
        splits=row["splits"],
        archived=row["archived"],
        version=row["version"],
        created_at=timestamp(row["created_at"]),
        changed_at=timestamp(row["changed_at"]),
        author=row["author"],
    )


def _datasets_page(request: pb.ListDatasetsRequest) -> PageRequest:
    return PageRequest.of(request, str)


def _items_page(request: pb.ListItemsRequest) -> PageRequest:
    return PageRequest.of(request, int, int)  # the version of all pages, and the first version of the last item


def _history_page(request: pb.DatasetHistoryRequest) -> PageRequest:
    return PageRequest.of(request, int)


async def _select(connection: asyncpg.Connection, project_id: str, selector: pb.DatasetSelector) -> SelectedDataset:
    row = await find_dataset(connection, project_id, selector.name, field="dataset.name")
    match selector.WhichOneof("when"):
        case "version":
            return SelectedDataset(row, _checked_version(row, selector.version))
        case "as_of":
            instant = to_datetime("dataset.as_of", selector.as_of)
            version = await connection.fetchval(_VERSION_AT, project_id, row["dataset_id"], instant)
            if version is None:
                since = row["created_at"].isoformat()
                raise NotFoundError(f"dataset {selector.name!r} at {instant.isoformat()}: it was created at {since}")
            return SelectedDataset(row, version)
    return SelectedDataset(row, row["version"])


def _checked_version(row: asyncpg.Record, version: int) -> int:
    if not 0 < version <= _MAX_VERSION:
        raise InvalidError("dataset.version", f"{version} is none: they are counted from 1")
    if version > row["version"]:
        raise NotFoundError(f"version {version} of dataset {row['name']!r}: it is at version {row['version']}")
    return version


def _at_version_of_first_page(present: SelectedDataset, version: int) -> SelectedDataset:
    if not 0 < version <= present.version:
        raise InvalidError("page_token", f"the dataset never was at version {version}")
    return SelectedDataset(present.dataset, version)


def _alternatives(name: str, names: list[str]) -> str:
    if not names:
        return "it has no datasets"
    hints = get_close_matches(name, names, n=_HINTS) or names[:_HINTS]
    more = " among others" if len(names) > len(hints) else ""
    return f"it has {', '.join(map(repr, hints))}{more}"


def _dataset_message(dataset: Row, version: int, description: Row) -> pb.Dataset:
    """Return the message of a dataset at a version; `description` is the row that describes it as it was then."""
    return pb.Dataset(
        dataset_id=dataset["dataset_id"],
        name=dataset["name"],
        description=description["description"],
        metadata_json=description["metadata"],
        input_schema_json=description["input_schema"],
        expected_output_schema_json=description["expected_output_schema"],
        archived=description["archived"],
        version=version,
        item_count=description["item_count"],
        created_at=timestamp(dataset["created_at"]),
        changed_at=timestamp(description["changed_at"]),
        run_count=description["run_count"],
        splits=description["splits"],
    )


def _change_message(row: asyncpg.Record) -> pb.DatasetChange:
    return pb.DatasetChange(
        version=row["change_version"],
        kind=row["kind"],
        item=item_message(row) if row["item_id"] is not None else None,
        author=row["change_author"],
        changed_at=timestamp(row["change_at"]),
    )
