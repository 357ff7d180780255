"""Items are judged one by one, by the dataset's schemas as well; no schema can harm who judges by it."""

import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lodestream_proto.v1.experiment_event_pb2 import DatasetItemRecorded

from services.write.gateway.datasets import judge as judges
from services.write.gateway.datasets.items import judge_items, kept_item
from services.write.gateway.datasets.judge import Judge, SchemaError
from services.write.gateway.datasets.judging import judge as judge_here
from services.write.gateway.datasets.lookup import Described
from shared.read_model.dataset_rules import check_item
from shared.read_model.experiment_ids import dataset_id_of, item_id_of
from shared.runtime.refusal import InvalidError, RefusedError
from tests.experiments import item

QUESTION = json.dumps(
    {
        "type": "object",
        "required": ["question"],
        "additionalProperties": False,
        "properties": {
            "question": {"type": "string", "pattern": "^[A-Z]"},
            "turns": {"items": {"properties": {"a b": {"maximum": 3}}}},
        },
    }
)


def described(**fields: Any) -> Described:
    """The dataset "questions"."""
    its: dict[str, Any] = {"version": 1, "archived": False, "input_schema": "", "expected_output_schema": ""}
    return Described(**{"dataset_id": dataset_id_of("questions"), "name": "questions", **its, **fields})


def raw(**fields: Any) -> DatasetItemRecorded:
    """An item as it is asked for: without ids."""
    return DatasetItemRecorded(**fields)


@asynccontextmanager
async def judging() -> AsyncIterator[Judge]:
    judge = Judge()
    try:
        yield judge
    finally:
        await judge.close()


async def outcomes(items: Sequence[DatasetItemRecorded], **fields: Any) -> list[tuple[str, str, str]]:
    async with judging() as judge:
        judged = await judge_items(items, described(**fields), judge)
    taken = {outcome.item_id for outcome in judged.outcomes if not outcome.field}
    assert taken == judged.kept.keys(), "what was taken is kept, and nothing else"
    return [(outcome.item_id, outcome.field, outcome.reason) for outcome in judged.outcomes]


async def test_good_items_beside_bad_ones_are_kept() -> None:
    told = await outcomes(
        [
            raw(item_id="a", input_json="1"),
            raw(item_id="b", input_json="{"),
            raw(input_json='"x"'),
            raw(item_id="d", input_json="1", metadata_json="[]"),
            raw(item_id="e", input_json="1", dataset_id=dataset_id_of("other")),
            raw(item_id="f", input_json="1", splits=["ok", "a\nb"]),
            raw(item_id="g", input_json="1", source_trace_id=b"x"),
            raw(item_id="h"),
        ]
    )
    assert [(item_id, field) for item_id, field, _ in told] == [
        ("a", ""),
        ("b", "input_json"),
        (item_id_of('"x"', ""), ""),
        ("d", "metadata_json"),
        ("e", "dataset_id"),
        ("f", "splits[1]"),
        ("g", "source_trace_id"),
        ("h", "input_json"),
    ]
    assert told[7][2] == "is missing"


async def test_of_two_items_with_one_id_the_first_is_taken_and_twice_the_same_is_once() -> None:
    told = await outcomes(
        [
            raw(item_id="a", input_json="1"),
            raw(item_id="a", input_json="1"),
            raw(item_id="a", input_json="2"),
            raw(input_json='{"x": 1, "y": 2}'),
            raw(input_json='{"y": 2, "x": 1}'),
        ]
    )
    assert [field for _, field, _ in told] == ["", "", "item_id", "", "item_id"]
    assert told[3][0] == item_id_of('{"y":2,"x":1}', "")


@given(
    value=st.recursive(st.integers() | st.text() | st.none(), lambda inner: st.lists(inner, max_size=3), max_leaves=5),
    expected=st.none() | st.integers(),
    splits=st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=5), max_size=5),
)
def test_what_is_kept_is_what_the_projection_takes(value: Any, expected: int | None, splits: list[str]) -> None:
    text = "" if expected is None else json.dumps(expected)
    asked = raw(input_json=json.dumps(value, indent=1), expected_output_json=text, splits=splits)
    kept = kept_item(asked, dataset_id_of("questions"))
    check_item(kept, "item")
    assert kept.item_id == item_id_of(json.dumps(value), text)
    assert list(kept.splits) == sorted(set(splits))
    assert (kept.input_json, kept.expected_output_json) == (asked.input_json, text), "texts are kept as they came"
    assert kept_item(kept, kept.dataset_id) == kept


async def test_what_breaks_a_schema_is_refused_by_the_place_in_it() -> None:
    told = await outcomes(
        [
            item("a", '{"question": "Why?"}', expected_output_json="3"),
            item("b", '{"question": 1}'),
            item("c", '{"question": "why"}'),
            item("d", "{}"),
            item("e", '{"question": "Why?", "answer": 1}'),
            item("f", '{"question": "Why?", "turns": [{}, {"a b": 4}]}'),
            item("g", "[]"),
            item("h", '{"question": "Why?"}', expected_output_json='"3"'),
            item("i", '{"question": "Why?"}'),
        ],
        input_schema=QUESTION,
        expected_output_schema='{"type": "integer"}',
    )
    assert told == [
        ("a", "", ""),
        ("b", "input_json.question", '1 is not of type "string"'),
        ("c", "input_json.question", '"why" does not match "^[A-Z]"'),
        ("d", "input_json.question", "is missing: the schema requires it"),
        ("e", "input_json.answer", "is not known to the schema"),
        ("f", 'input_json.turns[1]["a b"]', "4 is greater than the maximum of 3"),
        ("g", "input_json", '[] is not of type "object"'),
        ("h", "expected_output_json", '"3" is not of type "integer"'),
        ("i", "", ""),
    ]


@pytest.mark.parametrize(
    "schema",
    [
        '{"type": "strin"}',
        '{"pattern": "("}',
        '{"pattern": "(?=a)b"}',
        '{"pattern": "(a)\\\\1"}',
        '{"pattern": "((a{1,1000}){1,1000}){1,1000}"}',
        '{"$ref": "http://127.0.0.1:9/schema.json"}',
        '{"$ref": "file:///etc/hosts"}',
        '{"properties": {"a": {"$ref": "other.json#/a"}}}',
        '{"$schema": "http://127.0.0.1:9/draft"}',
        '{"$ref": "#/$defs/nowhere"}',
        "[1]",
        "3",
    ],
)
def test_what_is_no_schema_or_refers_to_elsewhere_is_refused(schema: str) -> None:
    told = judge_here(schema, ["1"])
    assert told.keys() == {"schema"}
    assert 0 < len(told["schema"]) <= 400


@pytest.mark.parametrize(
    ("schema", "text", "fits"),
    [
        ("true", "1", True),
        ("false", "1", False),
        ('{"$ref": "#"}', "1", True),
        ('{"pattern": "^(a+)+$"}', json.dumps("a" * 100_000 + "b"), False),
        (
            '{"$defs": {"n": {"items": {"$ref": "#/$defs/n"}, "type": "array"}}, "$ref": "#/$defs/n"}',
            "[[], [[]]]",
            True,
        ),
        ('{"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]}', "[1]", False),
        ('{"multipleOf": 7}', str(7 * 10**30), True),
        ('{"multipleOf": 7}', str(7 * 10**30 + 1), False),
    ],
)
def test_schemas_of_all_kinds_judge(schema: str, text: str, fits: bool) -> None:
    (fault,) = judge_here(schema, [text])["texts"]
    assert (fault is None) == fits


def test_a_reason_is_short_whatever_is_refused() -> None:
    (fault,) = judge_here('{"type": "integer"}', [json.dumps("x" * 1_000_000)])["texts"]
    assert len(fault[1]) <= 400


def endless() -> str:
    """A schema that asks for 2 ** 60 looks at one number."""
    definitions: dict[str, Any] = {
        f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}, {"$ref": f"#/$defs/a{n + 1}"}]} for n in range(60)
    }
    return json.dumps({"$ref": "#/$defs/a0", "$defs": {**definitions, "a60": {"type": "number"}}})


async def test_a_schema_that_takes_for_ever_costs_seconds_and_only_those_who_use_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(judges, "_COMMAND", (*judges._COMMAND[:-1], "0.5"))
    async with judging() as judge:
        began = time.monotonic()
        with pytest.raises(RefusedError, match=r"schema of input_json takes more than") as refused:
            await judge_items([item("a", "1")], described(input_schema=endless()), judge)
        assert refused.value.code == grpc.StatusCode.FAILED_PRECONDITION
        assert time.monotonic() - began < 5
        judged = await judge_items([item("a", "1")], described(input_schema="true"), judge)
        assert judged.kept.keys() == {"a"}


async def test_who_was_killed_while_judging_is_followed_by_another() -> None:
    async with judging() as judge:
        await judge.check("true")
        assert judge._process is not None
        judge._process.kill()  # whether or not that is known yet
        await judge.check("true")
        with pytest.raises(SchemaError, match="is no JSON Schema that is taken"):
            await judge.check('{"type": 1}')


def test_an_item_is_refused_by_the_name_of_the_field() -> None:
    with pytest.raises(InvalidError) as refused:
        kept_item(raw(item_id="x" * 256, input_json="1"), dataset_id_of("questions"))
    assert refused.value.field == "item.item_id"
