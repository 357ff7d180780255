"""Datasets as the query service answers: at any version, at any instant, in pages that belong to one version."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.datasets_pb2 import DatasetChangeKind, DatasetItem, DatasetSelector, GetDatasetRequest
from lodestream_proto.v1.datasets_pb2_grpc import DatasetServiceStub
from lodestream_proto.v1.query_pb2 import WaitFor

from services.all_in_one.processes import ProcessManager
from shared.event_log.topics import EXPERIMENTS
from tests.conftest import StartService
from tests.support.experiment_reading import Project, Reading, database_of_its_own, reading_experiments
from tests.support.experiment_records import archived, created, dataset_id, item, item_archived, requested
from tests.support.gateway import bearer, new_key
from tests.support.log_access import append, ends
from tests.support.polling import until
from tests.support.read_model import begin_at_the_end
from tests.support.records import NOON
from tests.support.servers import Servers

Code = grpc.StatusCode
QUESTIONS = DatasetSelector(name="questions")


@pytest.fixture(scope="module")
async def reading(ground: ProcessManager, servers: Servers, template: str) -> AsyncIterator[Reading]:
    async with (
        database_of_its_own(servers, template) as dsn,
        reading_experiments(ground, dsn, servers.environment) as reading,
    ):
        yield reading


@pytest.fixture
async def acme(reading: Reading) -> Project:
    return await reading.project()


def at(version: int, name: str = "questions") -> DatasetSelector:
    return DatasetSelector(name=name, version=version)


def after(seconds: float, name: str = "questions") -> DatasetSelector:
    """As of so many seconds after noon."""
    instant = Timestamp()
    instant.FromDatetime(NOON + timedelta(seconds=seconds))
    return DatasetSelector(name=name, as_of=instant)


async def test_a_dataset_is_what_it_was_at_each_version(acme: Project) -> None:
    await acme.tell(
        created(description="first", metadata_json='{"a":1}', input_schema_json='{"type":"string"}', author="ada"),
        item("a", splits=["test"]),
        item("b", splits=["train", "hard"]),
        created(description="second", expected_output_schema_json="true"),
        item_archived("b"),
        item("a", '"!"', splits=["test"]),
        archived(),
        requested("r"),
        requested("s"),
    )
    now = (await acme.ask("GetDataset", dataset=QUESTIONS)).dataset
    assert (now.dataset_id, now.name, now.version) == (dataset_id("questions"), "questions", 7)
    assert (now.description, now.metadata_json, now.input_schema_json) == ("second", "", "")
    assert now.expected_output_schema_json == "true"
    assert (now.archived, now.item_count, list(now.splits), now.run_count) == (True, 1, ["test"], 2)
    then = [(await acme.ask("GetDataset", dataset=at(version))).dataset for version in range(1, 8)]
    assert then[-1] == now
    assert [each.version for each in then] == [1, 2, 3, 4, 5, 6, 7]
    assert [each.item_count for each in then] == [0, 1, 2, 2, 1, 1, 1]
    assert [each.description for each in then] == 3 * ["first"] + 4 * ["second"]
    assert [each.archived for each in then] == 6 * [False] + [True]
    both = ["hard", "test", "train"]
    assert [list(each.splits) for each in then[:5]] == [[], ["test"], both, both, ["test"]]
    assert {each.created_at.ToMicroseconds() for each in then} == {now.created_at.ToMicroseconds()}
    assert [each.changed_at.ToMicroseconds() - now.created_at.ToMicroseconds() for each in then] == [
        n * 1_000_000 for n in range(7)
    ]


async def test_an_instant_is_the_last_version_decided_by_then(acme: Project) -> None:
    """Of several changes in one instant of the log, the last."""
    await acme.tell(created(), after_ms=10_000)
    await acme.tell(item("a"), item("b"), after_ms=20_000)
    await acme.tell(item("c"), after_ms=30_000)
    for seconds, version in {10: 1, 19.999999: 1, 20: 3, 29.9: 3, 30: 4, 10_000: 4}.items():
        assert (await acme.ask("GetDataset", dataset=after(seconds))).dataset.version == version
        assert (await acme.ask("ListItems", dataset=after(seconds))).version == version
    code, why = await acme.refusal("GetDataset", dataset=after(9.999))
    assert code is Code.NOT_FOUND
    created_at = (NOON + timedelta(seconds=10)).isoformat()
    assert why.startswith("this project has no dataset 'questions' at ")
    assert why.endswith(f": it was created at {created_at}")


async def test_what_is_not_there_is_told_with_what_is(acme: Project, reading: Reading) -> None:
    assert await acme.refusal("GetDataset", dataset=QUESTIONS) == (
        Code.NOT_FOUND,
        "this project has no dataset 'questions': it has no datasets",
    )
    await acme.tell(created("questions"), created("answers"), created("zebras"), created("gone"), archived("gone"))
    assert await acme.refusal("ListItems", dataset=DatasetSelector(name="question")) == (
        Code.NOT_FOUND,
        "this project has no dataset 'question': it has 'questions' among others",
    )
    assert await acme.refusal("DatasetHistory", name="0") == (
        Code.NOT_FOUND,
        "this project has no dataset '0': it has 'answers', 'questions', 'zebras'",
    )
    assert await acme.refusal("GetDataset", dataset=at(2)) == (
        Code.NOT_FOUND,
        "this project has no version 2 of dataset 'questions': it is at version 1",
    )
    for selector, field in {
        "": "dataset.name: is missing",
        "a\0": "dataset.name: a NUL character can't be looked for",
    }.items():
        assert await acme.refusal("GetDataset", dataset=DatasetSelector(name=selector)) == (
            Code.INVALID_ARGUMENT,
            field,
        )
    assert await acme.refusal("GetDataset", dataset=at(0)) == (
        Code.INVALID_ARGUMENT,
        "dataset.version: 0 is none: they are counted from 1",
    )
    other = await reading.project()
    assert (await other.refusal("GetDataset", dataset=QUESTIONS))[0] is Code.NOT_FOUND
    assert not (await other.ask("ListDatasets")).datasets


async def test_datasets_are_listed_by_name_and_archived_ones_when_asked_for(acme: Project) -> None:
    names = ["a%b", "a_b", "aXb", "Ünder", "z\\"]
    for name in names:
        await acme.tell(
            created(name), item("1", of=name, splits=["s"]), item("2", of=name), item_archived("2", of=name)
        )
    await acme.tell(archived("aXb"), requested("r", dataset_id=dataset_id("a_b")))

    async def found(**fields) -> list[str]:
        return [each.name for each in (await acme.ask("ListDatasets", **fields)).datasets]

    assert await found() == ["a%b", "a_b", "z\\", "Ünder"]
    assert await found(with_archived=True) == ["a%b", "aXb", "a_b", "z\\", "Ünder"]
    assert await found(name_contains="_B", with_archived=True) == ["a_b"], "no wildcard"
    assert await found(name_contains="%") == ["a%b"]
    assert await found(name_contains="\\") == ["z\\"]
    assert await found(name_contains="üNDER") == ["Ünder"], "in any case"
    pages = await acme.pages("ListDatasets", "datasets", page_size=2, with_archived=True)
    assert [[each.name for each in page] for page in pages] == [["a%b", "aXb"], ["a_b", "z\\"], ["Ünder"]]
    listed = pages[1][0]
    assert listed == (await acme.ask("GetDataset", dataset=DatasetSelector(name="a_b"))).dataset
    assert (listed.version, listed.item_count, list(listed.splits), listed.run_count) == (4, 1, ["s"], 1)
    assert (await acme.refusal("ListDatasets", name_contains="\0")) == (
        Code.INVALID_ARGUMENT,
        "name_contains: a NUL character can't be looked for",
    )


async def test_items_come_in_the_order_of_their_first_recording(acme: Project) -> None:
    await acme.tell(
        created(),
        item("z", '{"n": 1}', expected_output_json='"x"', metadata_json='{"m":1}', source_trace_id=bytes(range(16)),
             source_span_id=bytes(range(8)), splits=["b", "a"], author="ada"),
        item("y", splits=["b"]),
        item("x"),
        item_archived("y", author="bob"),
        item("z", '{"n": 2}', splits=["a"], author="eve"),
    )  # fmt: skip

    async def found(**fields) -> list[tuple[str, int]]:
        items = (await acme.ask("ListItems", **{"dataset": QUESTIONS, **fields})).items
        return [(each.item_id, each.version) for each in items]

    assert await found() == [("z", 6), ("x", 4)]
    assert await found(with_archived=True) == [("z", 6), ("y", 5), ("x", 4)]
    assert await found(dataset=at(4)) == [("z", 2), ("y", 3), ("x", 4)]
    assert await found(dataset=at(1)) == []
    assert await found(splits=["b"]) == []
    assert await found(splits=["b"], dataset=at(5)) == [("z", 2)]
    assert await found(splits=["a", "c"]) == [("z", 6)]
    assert await found(item_ids=["x", "y", "no"]) == [("x", 4)]
    assert await found(item_ids=["x", "y"], with_archived=True) == [("y", 5), ("x", 4)]
    first = (await acme.ask("ListItems", dataset=at(2))).items[0]
    assert first == DatasetItem(
        item_id="z", input_json='{"n": 1}', expected_output_json='"x"', metadata_json='{"m":1}',
        source_trace_id=bytes(range(16)).hex(), source_span_id=bytes(range(8)).hex(), splits=["a", "b"], version=2,
        author="ada", created_at=first.created_at, changed_at=first.created_at,
    )  # fmt: skip
    now = (await acme.ask("ListItems", dataset=QUESTIONS, with_archived=True)).items
    assert now[0].created_at == first.created_at
    assert now[0].changed_at.ToMicroseconds() - now[0].created_at.ToMicroseconds() == 4_000_000
    assert (now[1].archived, now[1].author, now[1].input_json) == (True, "bob", '"?"')
    assert (await acme.refusal("ListItems", dataset=QUESTIONS, splits=["\0"]))[1].startswith("splits: ")
    code, why = await acme.refusal("ListItems", dataset=QUESTIONS, item_ids=["a"] * 1_001)
    assert (code, why) == (Code.INVALID_ARGUMENT, "item_ids: 1001 values; at most 1000")


async def test_pages_of_items_belong_to_the_version_of_the_first(acme: Project) -> None:
    await acme.tell(created(), *(item(f"{n}") for n in range(5)))
    for selector in (QUESTIONS, after(1e9)):
        first = await acme.ask("ListItems", dataset=selector, page_size=2)
        before = first.version
        changed = [item("2", '"again"'), item("3", f'"{before}"'), item("0", f'"{before}"')]
        await acme.tell(item_archived("2"), item_archived("0"), *changed, item(f"new-{before}"))
        second = await acme.ask("ListItems", dataset=selector, page_size=2, page_token=first.next_page_token)
        third = await acme.ask("ListItems", dataset=selector, page_size=2, page_token=second.next_page_token)
        shown = [each for page in (first, second, third) for each in page.items]
        assert [each.item_id for each in shown[:5]] == ["0", "1", "2", "3", "4"]
        assert {page.version for page in (first, second, third)} == {before}
        assert all(each.version <= before for each in shown)
        assert shown == list((await acme.ask("ListItems", dataset=at(before))).items)[: len(shown)]
    assert await acme.refusal("ListItems", dataset=at(2), page_token=first.next_page_token) == (
        Code.INVALID_ARGUMENT,
        "page_token: it belongs to a request with another filter or sort",
    )


async def test_a_page_of_large_items_ends_early(acme: Project) -> None:
    await acme.tell(created(), *(item(f"{n}", f'"{"x" * 600_000}"') for n in range(5)))
    for rpc, rows, fields in (
        ("ListItems", "items", {"dataset": QUESTIONS}),
        ("DatasetHistory", "changes", {"name": "questions"}),
    ):
        pages = await acme.pages(rpc, rows, **fields)
        assert [len(page) for page in pages] == [3, 3 if rpc == "DatasetHistory" else 2]


async def test_the_history_tells_each_change_newest_first(acme: Project) -> None:
    await acme.tell(
        created(author="ada"),
        item("a", author="bob"),
        item("b", author="bob"),
        item("b", author="eve"),
        created(description="x", author="ada"),
        item("a", '"!"', author="eve"),
        item_archived("b", author="bob"),
        archived(author="ada"),
        created(description="x", author="eve"),
    )
    changes = (await acme.ask("DatasetHistory", name="questions")).changes
    told = [(each.version, DatasetChangeKind.Name(each.kind)[20:], each.item.item_id, each.author) for each in changes]
    assert told == [
        (8, "CREATED", "", "eve"),
        (7, "ARCHIVED", "", "ada"),
        (6, "ITEM_ARCHIVED", "b", "bob"),
        (5, "ITEM_CHANGED", "a", "eve"),
        (4, "DESCRIBED", "", "ada"),
        (3, "ITEM_ADDED", "b", "bob"),
        (2, "ITEM_ADDED", "a", "bob"),
        (1, "CREATED", "", "ada"),
    ]
    assert [each.HasField("item") for each in changes] == [bool(item_id) for _, _, item_id, _ in told]
    assert (changes[3].item.input_json, changes[6].item.input_json) == ('"!"', '"?"')
    assert (changes[2].item.archived, changes[2].item.version, changes[2].item.author) == (True, 6, "bob")
    assert changes[0].changed_at.ToMicroseconds() - changes[-1].changed_at.ToMicroseconds() == 8_000_000
    pages = await acme.pages("DatasetHistory", "changes", name="questions", page_size=3)
    assert [len(page) for page in pages] == [3, 3, 2]
    assert [each for page in pages for each in page] == list(changes)
    of_b = await acme.pages("DatasetHistory", "changes", name="questions", item_id="b", page_size=1)
    assert [[each.version for each in page] for page in of_b] == [[6], [3]]
    assert await acme.refusal("DatasetHistory", name="questions", item_id="c") == (
        Code.NOT_FOUND,
        "this project has no item 'c' in dataset 'questions', and never had",
    )
    assert await acme.refusal("DatasetHistory") == (Code.INVALID_ARGUMENT, "name: is missing")


async def test_changes_are_not_for_the_query_service(acme: Project) -> None:
    assert (await acme.refusal("RecordItems"))[0] is Code.UNIMPLEMENTED


async def test_a_read_waits_for_what_was_written_and_says_how_fresh_it_is(
    servers: Servers, database: str, service: StartService
) -> None:
    """By way of the log and the projection's process."""
    await begin_at_the_end(servers.kafka, database, "experiments", EXPERIMENTS)
    key = await new_key(database, "p")
    environment = {"LODESTREAM_POSTGRES": database, "LODESTREAM_EXPERIMENTS_GROUP": f"test-{uuid4().hex[:8]}"}
    query = await service("services.read.query", **environment)
    await service("services.projections.experiments", **environment)
    async with grpc.aio.insecure_channel(query.address) as channel:
        datasets: Any = DatasetServiceStub(channel)
        events = [created(), *(item(f"{n}") for n in range(100))]
        await append(servers.kafka, [(7, event.SerializeToString()) for event in events], topic=EXPERIMENTS)
        end = (await ends(servers.kafka, EXPERIMENTS))[7]
        wait = WaitFor(position=f"{EXPERIMENTS}:7:{end - 1}", timeout_ms=15_000)
        request = GetDatasetRequest(dataset=QUESTIONS, wait_for=wait)
        answer = await datasets.GetDataset(request, metadata=bearer(key), timeout=20)
        assert (answer.dataset.version, answer.dataset.item_count) == (101, 100)

        async def complete_until() -> int:
            answer = await datasets.GetDataset(request, metadata=bearer(key), timeout=20)
            return 0 if answer.freshness.lag_ms else answer.freshness.complete_until.ToMicroseconds()

        first = await until(complete_until)
        await until(lambda: _is_later(complete_until, first))


async def _is_later(complete_until: Callable[[], Awaitable[int]], than: int) -> bool:
    return await complete_until() > than
