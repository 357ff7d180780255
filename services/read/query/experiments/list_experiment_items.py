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
from services.read.query.datasets import messages
from services.read.query.datasets.list_items import at_version
from services.read.query.experiments.runs import find_run
from services.read.query.experiments.summaries import SQL, Row, is_dataset_known
from services.read.query.filters import Conditions
from services.read.query.paging import Int4, fetch_page, from_token, page_size, snapshot, to_token
from services.read.query.traces import Statement
from shared.read_model.postgres import load_sql
from shared.runtime.refusal import InvalidError

_LIST_RUN_ITEMS = load_sql(SQL / "list_run_items.sql")
_LIST_RUN_ITEMS_BY_ID = load_sql(SQL / "list_run_items_by_id.sql")
_COLUMNS = "".join(
    f", items.{column}"
    for column in (
        *("input", "expected_output", "metadata", "source_trace_id", "source_span_id", "splits", "archived"),
        *("version", "created_at", "changed_at", "author"),
    )
)


class Part(IntEnum):
    """Which results, in which order. Pages of one list stay with what its first one was."""

    OF_DATASET = 0
    """Of items that the dataset has, in its order; the others follow."""
    OTHERS = 1
    """Of items that it does not have, by id."""
    ALL = 2
    """All by id: there is no dataset, or it was not known when the list began."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins: after this result."""

    part: Part
    first_version: int = 0
    item_id: str = ""
    repetition: int = -1


async def list_experiment_items(
    database: Database, project_id: str, request: ListExperimentItemsRequest
) -> ListExperimentItemsResponse:
    """A page.

    Raises RefusedError: the project has no such run, or a field can't be used.
    """
    size, last = page_size(request.page_size), _last(request)
    async with snapshot(database) as connection:
        run = await find_run(connection, project_id, request.run_id)
        place = last or Place(Part.OF_DATASET if is_dataset_known(run) else Part.ALL)
        statement = list_statement(project_id, request, run, place)
        rows, more = await fetch_page(connection, statement.sql, statement.parameters, size)
        part = place.part
        if part == Part.OF_DATASET and not more:
            statement = list_statement(project_id, request, run, Place(Part.OTHERS))
            of_dataset = len(rows)
            rows, more = await fetch_page(connection, statement.sql, statement.parameters, size, rows)
            part = Part.OTHERS if len(rows) > of_dataset else part
    return ListExperimentItemsResponse(
        items=[_item(row, with_dataset_item=request.with_dataset_items) for row in rows],
        next_page_token=_token(request, part, rows[-1]) if more else "",
    )


def list_statement(project_id: str, request: ListExperimentItemsRequest, run: Row, place: Place) -> Statement:
    """A page after a place and one row more; `run` is a row of get_runs.sql."""
    limit = page_size(request.page_size) + 1
    if place.part == Part.OF_DATASET:
        conditions = Conditions(project_id, run["run_id"], run["dataset_id"])
        at_version(conditions, run["dataset_version"], is_present=run["dataset_now"] == run["dataset_version"])
        after, repetition = conditions.parameter(place.first_version), conditions.parameter(place.repetition)
        conditions.add_raw(f"items.first_version >= {after}")  # follows from the next, and is for the index
        conditions.add_raw(f"(items.first_version, results.repetition) > ({after}, {repetition})")
    else:
        conditions = Conditions(project_id, run["run_id"])
        item_id, repetition = conditions.parameter(place.item_id), conditions.parameter(place.repetition)
        conditions.add_raw(f"(results.item_id, results.repetition) > ({item_id}, {repetition})")
        if place.part == Part.OTHERS:
            conditions.add_raw(_not_of_dataset(conditions, run))
    if request.failed:
        conditions.add_raw("results.failed")
    placeholder = conditions.parameter(limit)
    template = _LIST_RUN_ITEMS if place.part == Part.OF_DATASET else _LIST_RUN_ITEMS_BY_ID
    columns = _COLUMNS if request.with_dataset_items else ""
    sql = template.format(columns=columns, conditions=conditions.sql(), limit=placeholder)
    return Statement(sql, conditions.parameters)


def _not_of_dataset(conditions: Conditions, run: Row) -> str:
    its = Conditions(*conditions.parameters)
    its.add("items.dataset_id = {}", run["dataset_id"])
    at_version(its, run["dataset_version"], is_present=run["dataset_now"] == run["dataset_version"])
    conditions.parameters = its.parameters
    return (
        "NOT EXISTS (SELECT FROM dataset_items AS items"
        f" WHERE items.project_id = $1 AND items.item_id = results.item_id{its.sql()})"
    )


def _item(row: Row, *, with_dataset_item: bool) -> ExperimentItem:
    item = ExperimentItem(result=ExperimentItemFinished.FromString(row["result"]))
    if with_dataset_item:
        item.item.CopyFrom(messages.item(row) if "input" in row else _told_by(item.result))
    return item


def _told_by(result: ExperimentItemFinished) -> DatasetItem:
    return DatasetItem(
        item_id=result.item_id,
        input_json=result.input_json,
        expected_output_json=result.expected_output_json,
        metadata_json=result.metadata_json,
    )


def _token(request: ListExperimentItemsRequest, part: Part, row: Row) -> str:
    first_version = row["first_version"] if part == Part.OF_DATASET else 0
    return to_token(_bound(request), [part, first_version, row["item_id"], row["repetition"]])


def _last(request: ListExperimentItemsRequest) -> Place | None:
    last = from_token(_bound(request), request.page_token, int, int, str, Int4)
    if last is None:
        return None
    part, first_version, item_id, repetition = last
    if part not in list(Part):
        raise InvalidError("page_token", "it is not a token of this service")
    return Place(Part(part), first_version, item_id, repetition)


def _bound(request: ListExperimentItemsRequest) -> bytes:
    """What must be the same from page to page."""
    kept = ListExperimentItemsRequest(
        run_id=request.run_id, failed=request.failed, with_dataset_items=request.with_dataset_items
    )
    return kept.SerializeToString(deterministic=True)
