"""DatasetService: its writes are taken here, the reads are forwarded."""

from typing import Any

import asyncpg
import grpc
from lodestream_proto.v1 import datasets_pb2 as pb
from lodestream_proto.v1.experiment_event_pb2 import DatasetArchived, DatasetCreated, DatasetItemArchived

from services.write.gateway import proxy
from services.write.gateway.admission import Room
from services.write.gateway.call import Call, Door
from services.write.gateway.datasets.items import judge_items
from services.write.gateway.datasets.lookup import Datasets
from services.write.gateway.experiments.events import checked_record
from services.write.gateway.judge import Judge, SchemaError
from services.write.gateway.prompts.requests import read
from shared.rules.datasets import check_author, check_dataset, check_dataset_name
from shared.rules.experiment_ids import dataset_id_of
from shared.rules.texts import check_id
from shared.runtime.refusal import InvalidError

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
        for field in ("input_schema_json", "expected_output_schema_json"):
            if schema := getattr(created, field):
                try:
                    await self._judge.check(call.project_id, schema)
                except SchemaError as error:
                    raise InvalidError(f"dataset.{field}", str(error)) from None
        return created

    async def _readable(self, call: Call, name: str, position: str) -> pb.Dataset:
        request = pb.GetDatasetRequest(dataset=pb.DatasetSelector(name=name))
        answer: pb.GetDatasetResponse = await call.when_readable(self._get, request, position, f"dataset {name!r}")
        return answer.dataset


def _check_count(count: int, path: str) -> None:
    if not 0 < count <= MAX_ITEMS:
        raise InvalidError(path, f"are {count}; 1 to {MAX_ITEMS} are taken")
