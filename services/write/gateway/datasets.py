"""Datasets: described, filled and archived here, by their schemas; all reads are forwarded."""

from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, TypeVar

import asyncpg
import grpc
from lodestream_proto.v1 import datasets_pb2 as pb
from lodestream_proto.v1.datasets_pb2 import DatasetSelector, ItemOutcome
from lodestream_proto.v1.experiment_event_pb2 import (
    DatasetArchived,
    DatasetCreated,
    DatasetItemArchived,
    DatasetItemRecorded,
)

from services.write.gateway import proxy
from services.write.gateway.admission import Room
from services.write.gateway.records import checked_record
from services.write.gateway.schema_sandbox import Fault, Judge, SchemaError
from services.write.gateway.write_rpc import Call, Door, read
from shared.rules.datasets import check_author, check_dataset, check_dataset_name, check_item
from shared.rules.experiment_ids import dataset_id_of, item_id_of
from shared.rules.texts import check_id
from shared.runtime.fairness import Turns
from shared.runtime.refusal import InvalidError, NotFoundError, RefusedError, UnavailableError
from shared.storage.postgres import DATABASE_ERRORS

T = TypeVar("T")
_DATASET = """
SELECT dataset_id, name, datasets.version, datasets.archived, input_schema, expected_output_schema
FROM datasets
JOIN dataset_descriptions USING (project_id, dataset_id)
WHERE project_id = $1 AND dataset_id = $2 AND until_version IS NULL
"""
_VERSION_AT = """
SELECT max(version) FROM dataset_changes WHERE project_id = $1 AND dataset_id = $2 AND changed_at <= $3
"""
_ANY = """
SELECT EXISTS (
    SELECT FROM dataset_items
    WHERE
        project_id = $1 AND dataset_id = $2 AND version <= $3 AND (until_version IS NULL OR until_version > $3)
        AND NOT archived AND ($4::text[] = '{}' OR splits && $4)
)
"""
_ITEMS = """
SELECT item_id FROM dataset_items
WHERE project_id = $1 AND dataset_id = $2 AND item_id = ANY($3) AND until_version IS NULL
"""


@dataclass(frozen=True, slots=True)
class Described:
    """A dataset, and what its items must satisfy now."""

    dataset_id: str
    name: str
    version: int
    archived: bool
    input_schema: str
    expected_output_schema: str

    def refuse_archived(self) -> None:
        """Raises RefusedError when it is archived."""
        if self.archived:
            why = f"dataset {self.name!r} is archived; created again, it is back"
            raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, why)


class Datasets:
    """Finds datasets of a project. All raise UnavailableError when the database does not answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def find(self, project_id: str, name: str) -> Described:
        """The dataset of this name.

        Raises NotFoundError.
        """
        return await self.find_by_id(project_id, dataset_id_of(name), name)

    async def find_by_id(self, project_id: str, dataset_id: str, name: str) -> Described:
        """The dataset of this id; `name` is its name, if that is known.

        Raises NotFoundError.
        """
        row = await _reading(self._pool.fetchrow(_DATASET, project_id, dataset_id))
        if row is None:
            raise NotFoundError(f"dataset {name!r}" if name else f"dataset with the id {dataset_id!r}")
        return Described(**row)

    async def version_of(
        self, project_id: str, dataset: Described, selector: DatasetSelector, version: int
    ) -> int | None:
        """The version that is selected, or given; None: neither, so the present one is meant.

        Raises RefusedError: there is none such, or two are named.
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
        found = selected or version or None
        if found and found > dataset.version:
            raise NotFoundError(f"version {found} of dataset {dataset.name!r}: it is at version {dataset.version}")
        return found

    async def refuse_empty(self, project_id: str, dataset: Described, version: int, splits: Collection[str]) -> None:
        """Raises RefusedError when the version has no items in any of these splits; none: at all."""
        if not await _reading(self._pool.fetchval(_ANY, project_id, dataset.dataset_id, version, sorted(splits))):
            where = f" in any of the splits {', '.join(map(repr, splits))}" if splits else ""
            why = f"version {version} of dataset {dataset.name!r} has no items{where}"
            raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, why)

    async def find_items(self, project_id: str, dataset: Described, item_ids: Collection[str]) -> None:
        """Raises NotFoundError when the dataset never had one of these items."""
        rows = await _reading(self._pool.fetch(_ITEMS, project_id, dataset.dataset_id, list(item_ids)))
        found = {row["item_id"] for row in rows}
        for item_id in item_ids:
            if item_id not in found:
                raise NotFoundError(f"item {item_id!r} in dataset {dataset.name!r}")

    async def _version_at(self, project_id: str, dataset: Described, selector: DatasetSelector) -> int:
        try:
            instant = selector.as_of.ToDatetime(tzinfo=UTC)
        except (ValueError, OverflowError):
            raise InvalidError("dataset.as_of", "is no instant") from None
        found: int | None = await _reading(self._pool.fetchval(_VERSION_AT, project_id, dataset.dataset_id, instant))
        if not found:
            raise NotFoundError(f"dataset {dataset.name!r} at {instant.isoformat()}")
        return found


async def _reading(reading: Awaitable[T]) -> T:
    try:
        return await reading
    except DATABASE_ERRORS as error:
        raise UnavailableError("datasets can't be read: the database does not answer", retry_seconds=5) from error


_ITEM = "item"


@dataclass(slots=True)
class Judged:
    """For each item given what came of it, and those to keep, by their ids."""

    outcomes: list[ItemOutcome] = field(default_factory=list)
    kept: dict[str, DatasetItemRecorded] = field(default_factory=dict)


async def judge_items(
    project_id: str,
    items: Sequence[DatasetItemRecorded],
    dataset: Described,
    judge: Judge,
    *,
    turns: Turns,
    room: Room,
) -> Judged:
    """What can be kept of these items, with ids.

    Raises RefusedError when the dataset's schemas can't be judged by, or the items are too much together.
    """
    judged = Judged()
    async with turns.of(project_id) as turn:
        for item in items:
            _take(item, dataset, judged, room)
            await turn.give()
    for name, schema in (
        ("input_json", dataset.input_schema),
        ("expected_output_json", dataset.expected_output_schema),
    ):
        texts = {item_id: text for item_id, item in judged.kept.items() if (text := getattr(item, name))}
        if schema and texts:
            _refuse(judged, name, await _faults(project_id, schema, name, texts, judge))
    return judged


def kept_item(item: DatasetItemRecorded, dataset_id: str) -> DatasetItemRecorded:
    """The item as it goes into the log: with an id, of the dataset, its splits sorted.

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


def _take(item: DatasetItemRecorded, dataset: Described, judged: Judged, room: Room) -> None:
    try:
        room.charge_payload(item, _ITEM)
        kept = kept_item(item, dataset.dataset_id)
        _refuse_another(judged.kept.setdefault(kept.item_id, kept), kept)
    except InvalidError as invalid:
        where = invalid.field.removeprefix(f"{_ITEM}.")
        judged.outcomes.append(ItemOutcome(item_id=item.item_id, field=where, reason=invalid.why))
    else:
        judged.outcomes.append(ItemOutcome(item_id=kept.item_id))


def _refuse_another(first: DatasetItemRecorded, item: DatasetItemRecorded) -> None:
    """Items of one request may reach the log in any order, so that none of two would be the later one."""
    if first != item:
        raise InvalidError(f"{_ITEM}.item_id", "another item of this request has it")


async def _faults(project_id: str, schema: str, name: str, texts: Mapping[str, str], judge: Judge) -> dict[str, Fault]:
    """What is wrong with the items, by their ids."""
    try:
        faults = await judge.faults(project_id, schema, list(texts.values()))
    except SchemaError as error:
        why = f"the dataset's schema of {name} {error}"
        raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, why) from None
    return {item_id: fault for item_id, fault in zip(texts, faults, strict=True) if fault is not None}


def _refuse(judged: Judged, name: str, faults: Mapping[str, Fault]) -> None:
    for outcome in judged.outcomes:
        if not outcome.field and (fault := faults.get(outcome.item_id)):
            outcome.field, outcome.reason = f"{name}{fault[0]}", fault[1]
    for item_id in faults:
        del judged.kept[item_id]


SERVICE = pb.DESCRIPTOR.services_by_name["DatasetService"]
MAX_ITEMS = 1_000
"""In one call."""


class DatasetWrites:
    """Answers when the read model has what was written; the same request again changes nothing."""

    def __init__(self, door: Door, query: grpc.aio.Channel, pool: asyncpg.Pool, judge: Judge) -> None:
        self._door, self._query, self._datasets, self._judge = door, query, Datasets(pool), judge
        self._get: Any = query.unary_unary(
            f"/{SERVICE.full_name}/GetDataset",
            request_serializer=pb.GetDatasetRequest.SerializeToString,
            response_deserializer=pb.GetDatasetResponse.FromString,
        )

    def handlers(self) -> grpc.GenericRpcHandler:
        """Every method of the service, bytes to bytes."""
        ours: dict[str, Any] = {
            "CreateDataset": self._door.method("CreateDataset", self._create),
            "ArchiveDataset": self._door.method("ArchiveDataset", self._archive),
            "RecordItems": self._door.method("RecordItems", self._record_items),
            "ArchiveItems": self._door.method("ArchiveItems", self._archive_items),
        }
        return grpc.method_handlers_generic_handler(
            SERVICE.full_name, {**proxy.forwarded(self._query, SERVICE, but=ours), **ours}
        )

    async def _create(self, call: Call) -> pb.CreateDatasetResponse:
        with call.held() as room:
            created = await self._described(call, room)
            position = await call.append([checked_record("dataset_created", created, call.envelope())])
        return pb.CreateDatasetResponse(dataset=await self._readable(call, created.name, position), position=position)

    async def _archive(self, call: Call) -> pb.ArchiveDatasetResponse:
        with call.held():
            asked = read(pb.ArchiveDatasetRequest, call.request)
            check_dataset_name(asked.name, "name")
            check_author(asked.author, "author")
            dataset = await self._datasets.find(call.project_id, asked.name)
            archived = DatasetArchived(dataset_id=dataset.dataset_id, author=asked.author)
            position = await call.append([checked_record("dataset_archived", archived, call.envelope())])
        its = await self._readable(call, asked.name, position)
        return pb.ArchiveDatasetResponse(version=its.version, position=position)

    async def _record_items(self, call: Call) -> pb.RecordItemsResponse:
        with call.held() as room:
            asked = read(pb.RecordItemsRequest, call.request)
            check_dataset_name(asked.dataset_name, "dataset_name")
            _check_count(len(asked.items), "items")
            dataset = await self._datasets.find(call.project_id, asked.dataset_name)
            dataset.refuse_archived()
            turns = call.door.admission.turns
            judged = await judge_items(call.project_id, asked.items, dataset, self._judge, turns=turns, room=room)
            if not judged.kept:
                return pb.RecordItemsResponse(outcomes=judged.outcomes, version=dataset.version)
            position = await call.append(
                [checked_record("dataset_item_recorded", item, call.envelope()) for item in judged.kept.values()]
            )
        its = await self._readable(call, asked.dataset_name, position)
        return pb.RecordItemsResponse(outcomes=judged.outcomes, version=its.version, position=position)

    async def _archive_items(self, call: Call) -> pb.ArchiveItemsResponse:
        with call.held():
            asked = read(pb.ArchiveItemsRequest, call.request)
            check_dataset_name(asked.dataset_name, "dataset_name")
            _check_count(len(asked.item_ids), "item_ids")
            check_author(asked.author, "author")
            for n, item_id in enumerate(asked.item_ids):
                check_id(item_id, f"item_ids[{n}]")
            dataset = await self._datasets.find(call.project_id, asked.dataset_name)
            dataset.refuse_archived()
            await self._datasets.find_items(call.project_id, dataset, asked.item_ids)
            archived = (
                DatasetItemArchived(dataset_id=dataset.dataset_id, item_id=item_id, author=asked.author)
                for item_id in dict.fromkeys(asked.item_ids)
            )
            position = await call.append(
                [checked_record("dataset_item_archived", each, call.envelope()) for each in archived]
            )
        its = await self._readable(call, asked.dataset_name, position)
        return pb.ArchiveItemsResponse(version=its.version, position=position)

    async def _described(self, call: Call, room: Room) -> DatasetCreated:
        """The description as it goes into the log: with an id.

        Raises InvalidError naming the field.
        """
        asked = read(pb.CreateDatasetRequest, call.request).dataset
        room.charge_payload(asked, "dataset")
        created = DatasetCreated()
        created.CopyFrom(asked)
        created.dataset_id = asked.dataset_id or dataset_id_of(asked.name)
        check_dataset(created, "dataset")
        for name in ("input_schema_json", "expected_output_schema_json"):
            if schema := getattr(created, name):
                try:
                    await self._judge.check(call.project_id, schema)
                except SchemaError as error:
                    raise InvalidError(f"dataset.{name}", str(error)) from None
        return created

    async def _readable(self, call: Call, name: str, position: str) -> pb.Dataset:
        request = pb.GetDatasetRequest(dataset=pb.DatasetSelector(name=name))
        answer: pb.GetDatasetResponse = await call.when_readable(self._get, request, position, f"dataset {name!r}")
        return answer.dataset


def _check_count(count: int, path: str) -> None:
    if not 0 < count <= MAX_ITEMS:
        raise InvalidError(path, f"are {count}; 1 to {MAX_ITEMS} are taken")
