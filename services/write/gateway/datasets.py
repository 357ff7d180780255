"""Datasets: described, filled and archived here, by their schemas; all reads are forwarded."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any

import asyncpg
import grpc
from lodestream_proto.v1 import datasets_pb2 as pb
from lodestream_proto.v1.datasets_pb2_grpc import DatasetServiceStub
from lodestream_proto.v1.experiment_event_pb2 import (
    DatasetArchived,
    DatasetCreated,
    DatasetItemArchived,
    DatasetItemRecorded,
)

from services.write.gateway.admission import Room
from services.write.gateway.proxy import service_handler
from services.write.gateway.records import experiment_record
from services.write.gateway.schema_sandbox import Fault, SchemaError, SchemaSandbox
from services.write.gateway.write_rpc import WriteCall, WriteRpcs
from shared.rules.datasets import check_author, check_dataset, check_dataset_name, check_item
from shared.rules.experiment_ids import dataset_id_of, item_id_of
from shared.rules.texts import check_id
from shared.runtime.fairness import Turns
from shared.runtime.refusal import InvalidError, NotFoundError, RefusedError
from shared.storage.named_queries import load_queries
from shared.storage.postgres import reading

SERVICE = pb.DESCRIPTOR.services_by_name["DatasetService"]
MAX_ITEMS = 1_000
"""The most items in one call."""
_ITEM = "item"
_QUERIES = load_queries(Path(__file__).with_suffix(".sql"))
_FIND_DATASET, _VERSION_AT = _QUERIES["find_dataset"], _QUERIES["version_at"]
_HAS_ITEMS, _FIND_ITEMS = _QUERIES["has_items"], _QUERIES["find_items"]


async def check_items(
    project_id: str,
    items: Sequence[DatasetItemRecorded],
    dataset: "DatasetRow",
    sandbox: SchemaSandbox,
    *,
    turns: Turns,
    room: Room,
) -> "CheckedItems":
    """Return what can be kept of these items, with ids, and what is wrong with the others, one by one.

    Raises RefusedError when nothing can be validated by the dataset's schemas, or the items are too much together.
    """
    checked = CheckedItems()
    async with turns.of(project_id) as turn:
        for item in items:
            _check_item(item, dataset, checked, room)
            await turn.give()
    for name, schema in (
        ("input_json", dataset.input_schema),
        ("expected_output_json", dataset.expected_output_schema),
    ):
        texts = {item_id: text for item_id, item in checked.kept.items() if (text := getattr(item, name))}
        if schema and texts:
            checked.refuse(name, await _find_faults(project_id, schema, name, texts, sandbox))
    return checked


def kept_item(item: DatasetItemRecorded, dataset_id: str) -> DatasetItemRecorded:
    """Return an item as it goes into the log: with an id, of the dataset, its splits sorted.

    Raises InvalidError naming the field.
    """
    kept = DatasetItemRecorded()
    kept.CopyFrom(item)
    kept.dataset_id = item.dataset_id or dataset_id
    kept.item_id = item.item_id or "not known yet"
    check_item(kept, _ITEM)
    if kept.dataset_id != dataset_id:
        raise InvalidError(f"{_ITEM}.dataset_id", "is another dataset's")
    if not item.item_id:
        kept.item_id = item_id_of(item.input_json, item.expected_output_json)
    kept.splits[:] = sorted(set(item.splits))
    return kept


def _check_item(item: DatasetItemRecorded, dataset: "DatasetRow", checked: "CheckedItems", room: Room) -> None:
    try:
        room.charge_payload(item, _ITEM)
        kept = kept_item(item, dataset.dataset_id)
        _refuse_other(checked.kept.setdefault(kept.item_id, kept), kept)
    except InvalidError as invalid:
        wrong = invalid.field.removeprefix(f"{_ITEM}.")
        checked.outcomes.append(pb.ItemOutcome(item_id=item.item_id, field=wrong, reason=invalid.why))
    else:
        checked.outcomes.append(pb.ItemOutcome(item_id=kept.item_id))


def _refuse_other(first: DatasetItemRecorded, item: DatasetItemRecorded) -> None:
    """Raise InvalidError when two items have one id: they may reach the log in any order, so neither is the later."""
    if first != item:
        raise InvalidError(f"{_ITEM}.item_id", "another item of this request has it")


async def _find_faults(
    project_id: str, schema: str, name: str, texts: Mapping[str, str], sandbox: SchemaSandbox
) -> dict[str, Fault]:
    """Return what is wrong with the JSON texts of items by a schema, by the items' ids."""
    try:
        faults = await sandbox.find_faults(project_id, schema, list(texts.values()))
    except SchemaError as error:
        why = f"the dataset's schema of {name} {error}"
        raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, why) from None
    return {item_id: fault for item_id, fault in zip(texts, faults, strict=True) if fault is not None}


def _check_count(count: int, path: str) -> None:
    if not 0 < count <= MAX_ITEMS:
        raise InvalidError(path, f"are {count}; 1 to {MAX_ITEMS} are taken")


@dataclass(slots=True)
class CheckedItems:
    """What came of each item of a request, and those to keep."""

    outcomes: list[pb.ItemOutcome] = field(default_factory=list)
    kept: dict[str, DatasetItemRecorded] = field(default_factory=dict)
    """The items to keep by their ids."""

    def refuse(self, name: str, faults: Mapping[str, Fault]) -> None:
        """Refuse items for faults in their JSON field `name`."""
        for outcome in self.outcomes:
            if not outcome.field and (fault := faults.get(outcome.item_id)):
                outcome.field, outcome.reason = f"{name}{fault[0]}", fault[1]
        for item_id in faults:
            del self.kept[item_id]


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A dataset in the read model, and what its items must satisfy now."""

    dataset_id: str
    name: str
    version: int
    archived: bool
    input_schema: str
    expected_output_schema: str

    def refuse_archived(self) -> None:
        """Raise RefusedError when the dataset is archived."""
        if self.archived:
            why = f"dataset {self.name!r} is archived; created again, it is back"
            raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, why)


class DatasetLookup:
    """Looks up datasets in the read model. All methods raise UnavailableError when the database does not answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def find(self, project_id: str, name: str) -> DatasetRow:
        """Return the dataset of this name; raises NotFoundError."""
        return await self.find_by_id(project_id, dataset_id_of(name), name)

    async def find_by_id(self, project_id: str, dataset_id: str, name: str) -> DatasetRow:
        """Return the dataset of this id; raises NotFoundError, with the name if one is given."""
        with reading("datasets"):
            row = await self._pool.fetchrow(_FIND_DATASET, project_id, dataset_id)
        if row is None:
            raise NotFoundError(f"dataset {name!r}" if name else f"dataset with the id {dataset_id!r}")
        return DatasetRow(**row)

    async def selected_version(
        self, project_id: str, dataset: DatasetRow, selector: pb.DatasetSelector, version: int
    ) -> int | None:
        """Return the version that a selector names, or the one that is given (0: none); None for neither.

        Raises RefusedError when there is no such version, or the two are different ones.
        """
        selected: int | None = None
        if selector.HasField("version"):
            selected = selector.version
            if not selected:
                raise InvalidError("dataset.version", "is 0; versions count from 1")
        elif selector.HasField("as_of"):
            selected = await self._version_at(project_id, dataset, selector)
        if selected and version and selected != version:
            raise InvalidError("experiment.dataset_version", f"is {version}, and the dataset's is {selected}")
        either = selected or version or None
        if either and either > dataset.version:
            raise NotFoundError(f"version {either} of dataset {dataset.name!r}: it is at version {dataset.version}")
        return either

    async def refuse_empty(self, project_id: str, dataset: DatasetRow, version: int, splits: Collection[str]) -> None:
        """Raise RefusedError when a version has no items in any of some splits; with no splits, none at all."""
        with reading("datasets"):
            has_items = await self._pool.fetchval(_HAS_ITEMS, project_id, dataset.dataset_id, version, sorted(splits))
        if not has_items:
            where = f" in any of the splits {', '.join(map(repr, splits))}" if splits else ""
            why = f"version {version} of dataset {dataset.name!r} has no items{where}"
            raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, why)

    async def require_items(self, project_id: str, dataset: DatasetRow, item_ids: Collection[str]) -> None:
        """Raise NotFoundError when the dataset never had one of these items."""
        with reading("datasets"):
            rows = await self._pool.fetch(_FIND_ITEMS, project_id, dataset.dataset_id, list(item_ids))
        existing = {row["item_id"] for row in rows}
        for item_id in item_ids:
            if item_id not in existing:
                raise NotFoundError(f"item {item_id!r} in dataset {dataset.name!r}")

    async def _version_at(self, project_id: str, dataset: DatasetRow, selector: pb.DatasetSelector) -> int:
        try:
            instant = selector.as_of.ToDatetime(tzinfo=UTC)
        except (ValueError, OverflowError):
            raise InvalidError("dataset.as_of", "is no instant") from None
        with reading("datasets"):
            version: int | None = await self._pool.fetchval(_VERSION_AT, project_id, dataset.dataset_id, instant)
        if not version:
            raise NotFoundError(f"dataset {dataset.name!r} at {instant.isoformat()}")
        return version


class DatasetService:
    """Writes of datasets answer when the read model has them; the same request again changes nothing.

    All of them raise InvalidError naming the field that is wrong, and UnavailableError when nothing is known to be
    stored, or it is in the log and can't be read yet.
    """

    def __init__(self, rpcs: WriteRpcs, query: grpc.aio.Channel, pool: asyncpg.Pool, sandbox: SchemaSandbox) -> None:
        self._rpcs, self._channel, self._datasets, self._sandbox = rpcs, query, DatasetLookup(pool), sandbox
        self._query: Any = DatasetServiceStub(query)

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return every method of the service, from bytes to bytes."""
        writes = {
            "CreateDataset": self._create,
            "ArchiveDataset": self._archive,
            "RecordItems": self._record_items,
            "ArchiveItems": self._archive_items,
        }
        methods = {rpc: self._rpcs.unary(rpc, write) for rpc, write in writes.items()}
        return service_handler(self._channel, SERVICE, methods)

    async def _create(self, call: WriteCall) -> pb.CreateDatasetResponse:
        """Create a dataset, or describe it anew; one that is archived is back.

        Args:
            call: A CreateDatasetRequest; its schemas are JSON Schemas that refer to nothing outside of them.

        Returns:
            The dataset as the read model has it, and the position of the change.
        """
        with call.hold_room() as room:
            description = call.parse(pb.CreateDatasetRequest).dataset
            room.charge_payload(description, "dataset")
            created = DatasetCreated()
            created.CopyFrom(description)
            created.dataset_id = created.dataset_id or dataset_id_of(created.name)
            check_dataset(created, "dataset")
            await self._check_schemas(call.project_id, created)
            position = await call.append([experiment_record("dataset_created", created, call.envelope())])
        return pb.CreateDatasetResponse(dataset=await self._read_back(call, created.name, position), position=position)

    async def _archive(self, call: WriteCall) -> pb.ArchiveDatasetResponse:
        """Archive a dataset: it takes no items and no runs until it is created again.

        Args:
            call: An ArchiveDatasetRequest.

        Returns:
            The dataset's version, and the position of the change.

        Raises:
            NotFoundError: The project has no such dataset.
        """
        with call.hold_room():
            request = call.parse(pb.ArchiveDatasetRequest)
            check_dataset_name(request.name, "name")
            check_author(request.author, "author")
            dataset = await self._datasets.find(call.project_id, request.name)
            archived = DatasetArchived(dataset_id=dataset.dataset_id, author=request.author)
            position = await call.append([experiment_record("dataset_archived", archived, call.envelope())])
        current = await self._read_back(call, request.name, position)
        return pb.ArchiveDatasetResponse(version=current.version, position=position)

    async def _record_items(self, call: WriteCall) -> pb.RecordItemsResponse:
        """Record items of a dataset, each of which is kept or refused by itself.

        Args:
            call: A RecordItemsRequest of 1 to 1,000 items.

        Returns:
            What came of each item, in order; the dataset's version, and the position if any item was kept.

        Raises:
            NotFoundError: The project has no such dataset.
            RefusedError: FAILED_PRECONDITION when it is archived, or nothing can be validated by its schemas.
            TooMuchError: The JSON texts of the items are too much together.
        """
        with call.hold_room() as room:
            request = call.parse(pb.RecordItemsRequest)
            check_dataset_name(request.dataset_name, "dataset_name")
            _check_count(len(request.items), "items")
            dataset = await self._datasets.find(call.project_id, request.dataset_name)
            dataset.refuse_archived()
            turns = self._rpcs.admission.turns
            checked = await check_items(call.project_id, request.items, dataset, self._sandbox, turns=turns, room=room)
            if not checked.kept:
                return pb.RecordItemsResponse(outcomes=checked.outcomes, version=dataset.version)
            position = await call.append(
                [experiment_record("dataset_item_recorded", item, call.envelope()) for item in checked.kept.values()]
            )
        current = await self._read_back(call, request.dataset_name, position)
        return pb.RecordItemsResponse(outcomes=checked.outcomes, version=current.version, position=position)

    async def _archive_items(self, call: WriteCall) -> pb.ArchiveItemsResponse:
        """Archive items of a dataset: later versions are without them.

        Args:
            call: An ArchiveItemsRequest of 1 to 1,000 item ids.

        Returns:
            The dataset's version, and the position of the changes.

        Raises:
            NotFoundError: The project has no such dataset, or it never had one of the items.
            RefusedError: FAILED_PRECONDITION when the dataset is archived.
        """
        with call.hold_room():
            request = call.parse(pb.ArchiveItemsRequest)
            check_dataset_name(request.dataset_name, "dataset_name")
            _check_count(len(request.item_ids), "item_ids")
            check_author(request.author, "author")
            for n, item_id in enumerate(request.item_ids):
                check_id(item_id, f"item_ids[{n}]")
            dataset = await self._datasets.find(call.project_id, request.dataset_name)
            dataset.refuse_archived()
            await self._datasets.require_items(call.project_id, dataset, request.item_ids)
            archived = (
                DatasetItemArchived(dataset_id=dataset.dataset_id, item_id=item_id, author=request.author)
                for item_id in dict.fromkeys(request.item_ids)
            )
            position = await call.append(
                [experiment_record("dataset_item_archived", item, call.envelope()) for item in archived]
            )
        current = await self._read_back(call, request.dataset_name, position)
        return pb.ArchiveItemsResponse(version=current.version, position=position)

    async def _check_schemas(self, project_id: str, created: DatasetCreated) -> None:
        for name in ("input_schema_json", "expected_output_schema_json"):
            if schema := getattr(created, name):
                try:
                    await self._sandbox.check_schema(project_id, schema)
                except SchemaError as error:
                    raise InvalidError(f"dataset.{name}", str(error)) from None

    async def _read_back(self, call: WriteCall, name: str, position: str) -> pb.Dataset:
        request = pb.GetDatasetRequest(dataset=pb.DatasetSelector(name=name))
        response: pb.GetDatasetResponse = await call.read_back(
            self._query.GetDataset, request, position, what=f"dataset {name!r}"
        )
        return response.dataset
