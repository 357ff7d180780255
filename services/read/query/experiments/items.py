"""ListExperimentItems: the finished items of a run, in the order of its dataset.

Results of items that the dataset does not have at the run's version come last, by their ids, as do all when there is no
dataset.
"""

from dataclasses import dataclass
from enum import IntEnum

from lodestream_proto.v1.datasets_pb2 import DatasetItem
from lodestream_proto.v1.experiment_event_pb2 import ExperimentItemFinished
from lodestream_proto.v1.experiments_pb2 import (
    ExperimentItem,
    ListExperimentItemsRequest,
    ListExperimentItemsResponse,
)

from services.read.query.database import Database
from services.read.query.datasets import add_version, item_message
from services.read.query.experiments.runs import find_run
from services.read.query.experiments.summaries import QUERIES, Row, is_dataset_known
from services.read.query.filters import Conditions, Statement
from services.read.query.paging import Int4, PageRequest, fetch_page, foreign_token, page_size, snapshot

_LIST_RUN_ITEMS = QUERIES["list_run_items"]
_LIST_RUN_ITEMS_BY_ID = QUERIES["list_run_items_by_id"]
_COLUMNS = "".join(
    f", items.{column}"
    for column in (
        *("input", "expected_output", "metadata", "source_trace_id", "source_span_id", "splits", "archived"),
        *("version", "created_at", "changed_at", "author"),
    )
)


class ItemOrder(IntEnum):
    """Which results a page shows, in which order; the number is part of its token."""

    OF_DATASET = 0
    """Results of items that the dataset has, in its order; the others follow."""
    OTHERS = 1
    """Results of items that the dataset does not have, by id."""
    ALL = 2
    """All results, by id: there is no dataset, or it was not known when the list began."""


@dataclass(frozen=True, slots=True)
class ItemPosition:
    """The result after which a page begins."""

    order: ItemOrder
    first_version: int = 0
    item_id: str = ""
    repetition: int = -1


async def list_experiment_items(
    database: Database, project_id: str, request: ListExperimentItemsRequest
) -> ListExperimentItemsResponse:
    """Return a page of a run's finished items.

    Raises RefusedError: the project has no such run, or a field can't be used.
    """
    page = _page(request)
    position = _position(page)
    async with snapshot(database) as connection:
        run = await find_run(connection, project_id, request.run_id)
        if position is None:
            position = ItemPosition(ItemOrder.OF_DATASET if is_dataset_known(run) else ItemOrder.ALL)
        statement = list_statement(project_id, request, run, position)
        rows, more = await fetch_page(connection, statement, page.size)
        order = position.order
        if order == ItemOrder.OF_DATASET and not more:
            statement = list_statement(project_id, request, run, ItemPosition(ItemOrder.OTHERS))
            of_dataset = len(rows)
            rows, more = await fetch_page(connection, statement, page.size, rows)
            order = ItemOrder.OTHERS if len(rows) > of_dataset else order
    return ListExperimentItemsResponse(
        items=[_item(row, with_dataset_item=request.with_dataset_items) for row in rows],
        next_page_token=_token(page, order, rows[-1]) if more else "",
    )


def list_statement(project_id: str, request: ListExperimentItemsRequest, run: Row, after: ItemPosition) -> Statement:
    """Return the statement of a page after a position and one row more; `run` is a row of get_runs."""
    limit = page_size(request.page_size) + 1
    if after.order == ItemOrder.OF_DATASET:
        conditions = Conditions(project_id, run["run_id"], run["dataset_id"])
        add_version(conditions, run["dataset_version"], is_present=run["dataset_now"] == run["dataset_version"])
        version, repetition = conditions.parameter(after.first_version), conditions.parameter(after.repetition)
        conditions.add_raw(f"items.first_version >= {version}")  # follows from the next, and is for the index
        conditions.add_raw(f"(items.first_version, results.repetition) > ({version}, {repetition})")
    else:
        conditions = Conditions(project_id, run["run_id"])
        item_id, repetition = conditions.parameter(after.item_id), conditions.parameter(after.repetition)
        conditions.add_raw(f"(results.item_id, results.repetition) > ({item_id}, {repetition})")
        if after.order == ItemOrder.OTHERS:
            conditions.add_raw(_not_of_dataset(conditions, run))
    if request.failed:
        conditions.add_raw("results.failed")
    placeholder = conditions.parameter(limit)
    template = _LIST_RUN_ITEMS if after.order == ItemOrder.OF_DATASET else _LIST_RUN_ITEMS_BY_ID
    columns = _COLUMNS if request.with_dataset_items else ""
    sql = template.format(columns=columns, conditions=conditions.sql(), limit=placeholder)
    return Statement(sql, conditions.parameters)


def _not_of_dataset(conditions: Conditions, run: Row) -> str:
    item = Conditions(*conditions.parameters)
    item.add("items.dataset_id = {}", run["dataset_id"])
    add_version(item, run["dataset_version"], is_present=run["dataset_now"] == run["dataset_version"])
    conditions.parameters = item.parameters
    return (
        "NOT EXISTS (SELECT FROM dataset_items AS items"
        f" WHERE items.project_id = $1 AND items.item_id = results.item_id{item.sql()})"
    )


def _item(row: Row, *, with_dataset_item: bool) -> ExperimentItem:
    item = ExperimentItem(result=ExperimentItemFinished.FromString(row["result"]))
    if with_dataset_item:
        item.item.CopyFrom(item_message(row) if "input" in row else _dataset_item_of(item.result))
    return item


def _dataset_item_of(result: ExperimentItemFinished) -> DatasetItem:
    """Return the dataset item as a result of it describes it."""
    return DatasetItem(
        item_id=result.item_id,
        input_json=result.input_json,
        expected_output_json=result.expected_output_json,
        metadata_json=result.metadata_json,
    )


def _page(request: ListExperimentItemsRequest) -> PageRequest:
    return PageRequest.of(request, int, int, str, Int4)  # the order, an item's first version and id, the repetition


def _token(page: PageRequest, order: ItemOrder, row: Row) -> str:
    first_version = row["first_version"] if order == ItemOrder.OF_DATASET else 0
    return page.token_after(order, first_version, row["item_id"], row["repetition"])


def _position(page: PageRequest) -> ItemPosition | None:
    if page.last is None:
        return None
    order, first_version, item_id, repetition = page.last
    if order not in list(ItemOrder):
        raise foreign_token()
    return ItemPosition(ItemOrder(order), first_version, item_id, repetition)
