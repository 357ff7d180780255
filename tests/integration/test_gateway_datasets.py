"""Datasets by way of the gateway: what is written is there when it is answered, and nothing that is wrong gets in."""

import json
from typing import Any
from uuid import uuid4

import grpc
import pytest
from lodestream_proto.v1 import datasets_pb2 as pb
from lodestream_proto.v1.datasets_pb2_grpc import DatasetServiceStub
from lodestream_proto.v1.experiment_event_pb2 import DatasetCreated, DatasetItemRecorded

from shared.event_log.topics import EXPERIMENTS
from shared.rules.experiment_ids import dataset_id_of, item_id_of
from tests.conftest import StartService
from tests.support.gateway import MODULE, new_key, opened, refusal, retry_delay
from tests.support.read_model import begin_at_the_end
from tests.support.servers import Servers
from tests.support.stack import Stack

SCHEMA = '{"type": "object", "required": ["question"], "properties": {"question": {"type": "string"}}}'


async def create(stack: Stack, name: str, project: str = "acme", **fields: Any) -> pb.Dataset:
    request = pb.CreateDatasetRequest(dataset=DatasetCreated(name=name, **fields))
    answer: pb.CreateDatasetResponse = await stack.ask(stack.datasets.CreateDataset, request, project=project)
    return answer.dataset


async def record(stack: Stack, name: str, *items: DatasetItemRecorded, project: str = "acme") -> Any:
    request = pb.RecordItemsRequest(dataset_name=name, items=items)
    return await stack.ask(stack.datasets.RecordItems, request, project=project)


async def listed(stack: Stack, name: str, project: str = "acme", **options: Any) -> Any:
    request = pb.ListItemsRequest(dataset=pb.DatasetSelector(name=name), page_size=1000, **options)
    return await stack.ask(stack.datasets.ListItems, request, project=project)


def item(question: Any, item_id: str = "", **fields: Any) -> DatasetItemRecorded:
    return DatasetItemRecorded(item_id=item_id, input_json=json.dumps({"question": question}), **fields)


async def test_items_that_become_too_much_are_refused_and_cost_nothing_beside_them(shared_stack: Stack) -> None:
    await create(shared_stack, "bombs")
    bomb = DatasetItemRecorded(item_id="bomb", input_json="[" + "[]," * 60_000 + "1]")
    numbers = DatasetItemRecorded(item_id="numbers", input_json="[" + "0.5," * 9_000 + "1]")
    told = await record(shared_stack, "bombs", bomb, numbers)
    assert [(outcome.item_id, outcome.field) for outcome in told.outcomes] == [("bomb", "input_json"), ("numbers", "")]
    assert "has 120002 names and values; at most 100000 are taken" in told.outcomes[0].reason
    assert [its.item_id for its in (await listed(shared_stack, "bombs")).items] == ["numbers"]
    error = await refusal(record(shared_stack, "bombs", *[bomb] * 9))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "more than 1000000 names and values in the JSON texts of one request" in (error.details() or "")


async def test_what_is_written_can_be_read_when_it_is_answered(shared_stack: Stack) -> None:
    created = await create(shared_stack, "whole way", description="Questions", metadata_json='{"team": "a"}')
    assert (created.name, created.dataset_id, created.version) == ("whole way", dataset_id_of("whole way"), 1)
    assert (created.description, created.metadata_json) == ("Questions", '{"team": "a"}')

    told = await record(shared_stack, "whole way", item("Why?", splits=["test", "hard", "test"]), item("How?", "how"))
    assert [(outcome.item_id, outcome.field) for outcome in told.outcomes] == [
        (item_id_of('{"question": "Why?"}', ""), ""),
        ("how", ""),
    ]
    assert (told.version, told.position.startswith(EXPERIMENTS)) == (3, True)
    answer = await listed(shared_stack, "whole way")
    assert [(its.item_id, json.loads(its.input_json), list(its.splits)) for its in answer.items] == [
        (told.outcomes[0].item_id, {"question": "Why?"}, ["hard", "test"]),
        ("how", {"question": "How?"}, []),
    ]

    again = await record(shared_stack, "whole way", item("Why?", splits=["hard", "test"]), item("How?", "how"))
    assert again.version == 3, "what holds already, said again, changes nothing"

    request = pb.ArchiveItemsRequest(dataset_name="whole way", item_ids=["how", "how"], author="ada")
    archived = await shared_stack.ask(shared_stack.datasets.ArchiveItems, request)
    assert archived.version == 4
    assert len((await listed(shared_stack, "whole way")).items) == 1

    described = await create(shared_stack, "whole way", description="Better questions")
    assert (described.version, described.description, described.metadata_json) == (5, "Better questions", "")
    gone = await shared_stack.ask(shared_stack.datasets.ArchiveDataset, pb.ArchiveDatasetRequest(name="whole way"))
    assert gone.version == 6
    again = await shared_stack.ask(shared_stack.datasets.ArchiveDataset, pb.ArchiveDatasetRequest(name="whole way"))
    assert again.version == 6
    for method, late in (
        ("RecordItems", pb.RecordItemsRequest(dataset_name="whole way", items=[item("Who?")])),
        ("ArchiveItems", pb.ArchiveItemsRequest(dataset_name="whole way", item_ids=["how"])),
    ):
        error = await refusal(shared_stack.ask(getattr(shared_stack.datasets, method), late))
        assert (error.code(), "is archived" in (error.details() or "")) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    assert not (await create(shared_stack, "whole way")).archived, "created again, it is back"


async def test_items_that_break_the_schemas_are_refused_one_by_one(shared_stack: Stack) -> None:
    await create(shared_stack, "strict", input_schema_json=SCHEMA, expected_output_schema_json='{"type": "integer"}')
    told = await record(
        shared_stack,
        "strict",
        item("Why?", "good", expected_output_json="1"),
        item(3, "bad"),
        item("Why?", "worse", expected_output_json='"1"'),
        DatasetItemRecorded(item_id="none", input_json="{"),
    )
    assert [(outcome.item_id, outcome.field) for outcome in told.outcomes] == [
        ("good", ""),
        ("bad", "input_json.question"),
        ("worse", "expected_output_json"),
        ("none", "input_json"),
    ]
    assert [its.item_id for its in (await listed(shared_stack, "strict")).items] == ["good"]
    none = await record(shared_stack, "strict", item(3, "bad"))
    assert (none.version, none.position) == (told.version, ""), "nothing was written"


async def test_a_thousand_items_keep_their_order(shared_stack: Stack) -> None:
    await create(shared_stack, "many")
    items = [item("?" * 200, f"{n:04}") for n in range(1000)]
    told = await record(shared_stack, "many", *items[::-1])
    assert told.version == 1001
    assert [its.item_id for its in (await listed(shared_stack, "many")).items] == [its.item_id for its in items[::-1]]


@pytest.mark.parametrize(
    ("method", "request_", "code", "reason"),
    [
        ("CreateDataset", pb.CreateDatasetRequest(), "INVALID_ARGUMENT", "dataset.name: is missing"),
        (
            "CreateDataset",
            pb.CreateDatasetRequest(dataset=DatasetCreated(name="x", input_schema_json='{"type": 3}')),
            "INVALID_ARGUMENT",
            "dataset.input_schema_json: is no JSON Schema",
        ),
        (
            "CreateDataset",
            pb.CreateDatasetRequest(dataset=DatasetCreated(name="x", dataset_id="0" * 32)),
            "INVALID_ARGUMENT",
            "dataset.dataset_id: does not follow",
        ),
        ("RecordItems", pb.RecordItemsRequest(dataset_name="x"), "INVALID_ARGUMENT", "items: are 0"),
        ("RecordItems", pb.RecordItemsRequest(items=[item("?")]), "INVALID_ARGUMENT", "dataset_name: is missing"),
        (
            "RecordItems",
            pb.RecordItemsRequest(dataset_name="x", items=[item("?")] * 1001),
            "INVALID_ARGUMENT",
            "items: are 1001; 1 to 1000",
        ),
        ("RecordItems", pb.RecordItemsRequest(dataset_name="x", items=[item("?")]), "NOT_FOUND", "no dataset 'x'"),
        ("ArchiveDataset", pb.ArchiveDatasetRequest(name="x"), "NOT_FOUND", "no dataset 'x'"),
        ("ArchiveDataset", pb.ArchiveDatasetRequest(name="x", author="\n"), "INVALID_ARGUMENT", "author: "),
        ("ArchiveItems", pb.ArchiveItemsRequest(dataset_name="x", item_ids=["a"]), "NOT_FOUND", "no dataset 'x'"),
        ("ArchiveItems", pb.ArchiveItemsRequest(dataset_name="x", item_ids=["a", ""]), "INVALID_ARGUMENT", "ids[1]: "),
        ("ArchiveItems", pb.ArchiveItemsRequest(dataset_name="there", item_ids=["a"]), "NOT_FOUND", "no item 'a'"),
    ],
)
async def test_a_call_is_refused_by_the_field_that_is_wrong(
    shared_stack: Stack, method: str, request_: Any, code: str, reason: str
) -> None:
    await create(shared_stack, "there")
    error = await refusal(shared_stack.ask(getattr(shared_stack.datasets, method), request_))
    assert (error.code().name, reason in (error.details() or "")) == (code, True), error.details()


async def test_two_projects_never_see_each_others_datasets(shared_stack: Stack) -> None:
    await create(shared_stack, "ours", description="acme's")
    await record(shared_stack, "ours", item("ours", "a"))
    for method, request in (
        ("GetDataset", pb.GetDatasetRequest(dataset=pb.DatasetSelector(name="ours"))),
        ("ListItems", pb.ListItemsRequest(dataset=pb.DatasetSelector(name="ours"))),
        ("RecordItems", pb.RecordItemsRequest(dataset_name="ours", items=[item("theirs", "a")])),
        ("ArchiveItems", pb.ArchiveItemsRequest(dataset_name="ours", item_ids=["a"])),
        ("ArchiveDataset", pb.ArchiveDatasetRequest(name="ours")),
    ):
        error = await refusal(shared_stack.ask(getattr(shared_stack.datasets, method), request, project="other"))
        assert error.code() == grpc.StatusCode.NOT_FOUND, method
    await create(shared_stack, "ours", "other", description="other's")
    await record(shared_stack, "ours", item("theirs", "a"), project="other")
    for project, description, question in (("acme", "acme's", "ours"), ("other", "other's", "theirs")):
        (its,) = (await listed(shared_stack, "ours", project)).items
        assert json.loads(its.input_json) == {"question": question}
        wanted = pb.ListDatasetsRequest(name_contains="ours")
        (found,) = (await shared_stack.ask(shared_stack.datasets.ListDatasets, wanted, project=project)).datasets
        assert (found.description, found.item_count) == (description, 1)


async def test_a_dataset_that_nobody_can_read_yet_is_told_with_its_place_and_asked_for_again_is_there_once(
    servers: Servers, database: str, service: StartService
) -> None:
    """No projection runs: the log has the dataset all the same."""
    await begin_at_the_end(servers.kafka, database, "experiments", EXPERIMENTS)
    key = await new_key(database)
    query = await service("services.read.query", LODESTREAM_POSTGRES=database)
    gateway = await service(MODULE, LODESTREAM_POSTGRES=database, LODESTREAM_QUERY=query.address)
    async with opened(gateway.address, key, kafka=servers.kafka) as door:
        stub: Any = DatasetServiceStub(door.channel)
        asked = DatasetCreated(name="Ünread", input_schema_json=SCHEMA, author="ada")
        request = pb.CreateDatasetRequest(dataset=asked)
        error = await refusal(stub.CreateDataset(request, metadata=door.bearer, timeout=4))
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert retry_delay(error) > 0
        place = (error.details() or "").partition("dataset 'Ünread' at ")[2].partition(",")[0]
        (found,) = await door.at(place)
        assert found.event is not None
        assert (found.topic, found.event.project_id) == (EXPERIMENTS, "acme")
        asked.dataset_id = dataset_id_of("Ünread")
        assert found.event.dataset_created == asked

        environment = {"LODESTREAM_POSTGRES": database, "LODESTREAM_EXPERIMENTS_GROUP": f"test-{uuid4().hex[:8]}"}
        await service("services.projections.experiments", **environment)
        answer = await stub.CreateDataset(request, metadata=door.bearer, timeout=15)
        assert answer.dataset.version == 1, "told twice, it is one change"
