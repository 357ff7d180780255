"""Datasets in a program: exact versions, items page by page, rows stored or refused one by one."""

import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lodestream import (
    DatasetError,
    DatasetItemsRefusedError,
    DatasetNotFoundError,
    DatasetRefusedError,
    DatasetUnavailableError,
    Lodestream,
)
from lodestream._datasets import requests
from lodestream.testing import captured
from lodestream_evals.strict_json import NotJsonError, canonical_json, plain, strict_json

from sdk.tests.experiment_server import ExperimentServer


@pytest.fixture
def server() -> Iterator[ExperimentServer]:
    with ExperimentServer() as running:
        yield running


@pytest.fixture
def client(server: ExperimentServer, tmp_path: Path) -> Iterator[Lodestream]:
    made = Lodestream(endpoint=server.address, secret_key="sk", spool_dir=tmp_path)
    yield made
    made.shutdown()


def questions(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"input": {"question": f"q{number}"}, "expected_output": f"a{number}", **fields} for number in range(count)]


# --- Making -----------------------------------------------------------------------------------------------------------


def test_a_dataset_is_made_and_read_back(client: Lodestream) -> None:
    made = client.create_dataset(
        "support", description="real questions", metadata={"team": "x"}, input_schema={"required": ["question"]}
    )
    assert (made.name, made.description, made.metadata) == ("support", "real questions", {"team": "x"})
    assert made.input_schema == {"required": ["question"]}
    found = client.get_dataset("support")
    assert (found.id, found.version, len(found), list(found)) == (made.id, made.version, 0, [])
    assert found


def test_an_item_of_everything(client: Lodestream) -> None:
    client.create_dataset("support")
    item = client.create_dataset_item(
        dataset_name="support", input={"question": "why?"}, expected_output=["because"], metadata={"a": 1}, id="mine",
        source_trace_id="0" * 31 + "7", source_observation_id="0" * 15 + "9", splits=["test", "hard"],
    )  # fmt: skip
    assert (item.id, item.input, item.expected_output, item.metadata) == (
        "mine",
        {"question": "why?"},
        ["because"],
        {"a": 1},
    )
    assert (item["input"], item.splits, item.status) == (item.input, ("hard", "test"), "ACTIVE")
    assert (item.source_trace_id, item.source_observation_id) == ("0" * 31 + "7", "0" * 15 + "9")
    assert item.created_at is not None
    assert item.created_at.tzinfo is not None
    with pytest.raises(KeyError):
        item["no such field"]


def test_equal_content_is_the_same_item(client: Lodestream) -> None:
    client.create_dataset("support")
    one = client.create_dataset_item(dataset_name="support", input={"a": 1, "b": 2}, expected_output=None)
    again = client.create_dataset_item(dataset_name="support", input={"a": 1, "b": 2})
    assert (one.id, one.version) == (again.id, again.version)


def test_an_archived_item_is_in_earlier_versions_only(client: Lodestream) -> None:
    client.create_dataset("support")
    recorded = client.create_dataset_items("support", questions(3))
    version = client.archive_dataset_items("support", [recorded.item_ids[0]])
    assert version == recorded.version + 1
    assert [item.expected_output for item in client.get_dataset("support")] == ["a1", "a2"]
    assert len(list(client.get_dataset("support", version=recorded.version))) == 3
    gone = client.create_dataset_item(dataset_name="support", input=1, status="ARCHIVED")
    assert gone.status == "ARCHIVED"
    assert client.archive_dataset("support") > version


def test_values_are_written_as_what_they_say(client: Lodestream) -> None:
    @dataclasses.dataclass
    class Question:
        text: str
        asked: dt.date

    class Tone(enum.Enum):
        KIND = "kind"

    client.create_dataset("support")
    item = client.create_dataset_item(
        dataset_name="support",
        input={
            "q": Question("why?", dt.date(2026, 3, 1)), "tone": Tone.KIND, "tags": {"b", "a"},
            "n": (1, 2.5, None, True), "id": uuid.UUID(int=7), "price": decimal.Decimal("1.20"), 7: "seven",
            "raw": b"text",
        },
    )  # fmt: skip
    assert item.input == {
        "q": {"text": "why?", "asked": "2026-03-01"}, "tone": "kind", "tags": ["a", "b"], "n": [1, 2.5, None, True],
        "id": "00000000-0000-0000-0000-000000000007", "price": "1.20", "7": "seven", "raw": "text",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [1, math.nan]}, "input.a[1]"),
        ({"a": {"b": -math.inf}}, "input.a.b"),
        ([object()], "input[0]"),
        ({("a", "b"): 1}, "input"),
        ("\ud800", "input"),
        (b"\xff\xfe", "input"),
        ({1: "a", "1": "b"}, "input"),
    ],
)
def test_what_json_can_not_say_is_refused_with_its_place(client: Lodestream, value: Any, place: str) -> None:
    with pytest.raises(DatasetRefusedError) as raised:
        client.create_dataset_item(dataset_name="support", input=value)
    assert raised.value.field == place


def test_what_contains_itself_is_refused() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(NotJsonError, match="contains itself"):
        strict_json(cycle, "input")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_json_is_taken_as_it_is(value: Any) -> None:
    assert plain(value, "input") == json.loads(strict_json(value, "input")) == value


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical_json({"b": 1, "a": "ü"}, "x") == canonical_json({"a": "ü", "b": 1}, "x") == '{"a":"ü","b":1}'


# --- Many at a time ---------------------------------------------------------------------------------------------------


def test_many_are_sent_a_thousand_at_a_time(server: ExperimentServer, client: Lodestream) -> None:
    client.create_dataset("support")
    recorded = client.create_dataset_items("support", iter(questions(2_300)))
    assert [len(request.items) for request in server.sent if hasattr(request, "items")] == [1_000, 1_000, 300]
    assert len(set(recorded.item_ids)) == 2_300
    assert [item.input["question"] for item in client.get_dataset("support")] == [f"q{n}" for n in range(2_300)]


def test_large_rows_are_sent_in_smaller_calls(
    server: ExperimentServer, client: Lodestream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "MOST_BYTES", 2_500)
    client.create_dataset("support")
    client.create_dataset_items("support", [{"input": str(number) + "x" * 1_000} for number in range(5)])
    assert [len(request.items) for request in server.sent if hasattr(request, "items")] == [2, 2, 1]


def test_good_rows_are_stored_and_bad_ones_listed(client: Lodestream) -> None:
    client.create_dataset("support", input_schema={"required": ["question"]})
    rows = [
        {"input": {"question": "a"}},
        {"input": {"answer": "b"}},
        {"input": {"question": math.nan}},
        {"input": {"question": "c"}, "splits": "test"},
        {"input": {"question": "d"}, "comment": "what is this?"},
        {"expected_output": 1},
        "no item at all",
        {"input": {"question": "e"}, "source_trace_id": "7"},
        {"input": {"question": "f"}},
    ]
    with pytest.raises(DatasetItemsRefusedError) as raised:
        client.create_dataset_items("support", rows)  # type: ignore[arg-type]
    error = raised.value
    assert [(each.row, each.field) for each in error.refused] == [
        (1, "input.question"), (2, "input.question"), (3, "splits"), (4, "comment"), (5, "input"), (6, ""),
        (7, "source_trace_id"),
    ]  # fmt: skip
    assert [bool(item_id) for item_id in error.recorded.item_ids] == [True, *[False] * 7, True]
    assert "7 of 9 items of 'support' were refused, 2 are stored" in str(error)
    assert "row 1: input.question: is missing" in str(error)
    assert [item.input["question"] for item in client.get_dataset("support")] == ["a", "f"]


# --- Reading ----------------------------------------------------------------------------------------------------------


def test_items_are_asked_for_when_they_are_looked_at(server: ExperimentServer, client: Lodestream) -> None:
    server.add("support", *questions(1_200))
    dataset = client.get_dataset("support")
    assert len(dataset) == 1_200
    assert server.asked["ListItems"] == 0
    assert dataset.items[3].expected_output == "a3"
    assert next(iter(dataset)).expected_output == "a0"
    assert server.asked["ListItems"] == 1
    assert [item.expected_output for item in dataset] == [f"a{number}" for number in range(1_200)]
    assert [item.expected_output for item in dataset.items[-2:]] == ["a1198", "a1199"]
    assert server.asked["ListItems"] == 3
    with pytest.raises(IndexError):
        dataset.items[1_200]


def test_pages_that_are_too_large_become_smaller(server: ExperimentServer, client: Lodestream) -> None:
    server.add("support", *({"input": f"{number}" + "x" * 1_000} for number in range(100)))
    server.most_bytes = 5_000
    assert len(list(client.get_dataset("support"))) == 100


def test_later_changes_do_not_show(server: ExperimentServer, client: Lodestream) -> None:
    server.add("support", *questions(2))
    dataset = client.get_dataset("support")
    server.add("support", *questions(5))
    assert (len(dataset), len(list(dataset))) == (2, 2)
    assert len(client.get_dataset("support")) == 5
    assert len(client.get_dataset("support", version=dataset.version)) == 2


def test_as_it_was_at_an_instant(server: ExperimentServer, client: Lodestream) -> None:
    server.add("support", *questions(1))
    then = dt.datetime.now(dt.UTC)
    server.add("support", *questions(3))
    assert len(client.get_dataset("support", as_of=then)) == 1
    assert len(client.get_dataset("support", version=then)) == 1
    with pytest.raises(ValueError, match="not both"):
        client.get_dataset("support", version=1, as_of=then)


def test_splits(server: ExperimentServer, client: Lodestream) -> None:
    server.add("support", *questions(2, splits=["test"]), {"input": "x", "splits": ["hard"]}, {"input": "y"})
    dataset = client.get_dataset("support", splits=["hard"])
    assert (len(dataset), [item.input for item in dataset]) == (1, ["x"])
    with pytest.raises(TypeError, match="splits is a list, not a text"):
        client.get_dataset("support", splits="hard")


# --- What goes wrong --------------------------------------------------------------------------------------------------


def test_what_is_not_there(client: Lodestream) -> None:
    with pytest.raises(DatasetNotFoundError, match="no dataset 'nowhere'"):
        client.get_dataset("nowhere")
    with pytest.raises(LookupError):
        client.create_dataset_item(dataset_name="nowhere", input=1)


def test_the_servers_refusal_names_the_field(client: Lodestream) -> None:
    with pytest.raises(DatasetRefusedError) as raised:
        client.create_dataset("")
    assert (raised.value.field, raised.value.reason) == ("name", "is empty")
    with pytest.raises(DatasetRefusedError, match="neither ACTIVE nor ARCHIVED"):
        client.create_dataset_item(dataset_name="support", input=1, status="GONE")  # type: ignore[arg-type]


def test_a_server_that_is_away(client: Lodestream, server: ExperimentServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "_RETRIES", 1)
    server.failing = grpc.StatusCode.UNAVAILABLE
    with pytest.raises(DatasetUnavailableError):
        client.get_dataset("support")
    assert server.asked["GetDataset"] == 2


def test_without_a_server() -> None:
    with captured() as told, pytest.raises(DatasetError, match="no server"):
        told_client().get_dataset("support")
    assert not told.spans


def told_client() -> Lodestream:
    from lodestream import get_client

    return get_client()
