"""Items are checked one by one, by the dataset's schemas as well; no schema can harm who validates by it."""

import json
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lodestream_proto.v1.experiment_event_pb2 import DatasetItemRecorded

from services.write.gateway.datasets import DatasetLookup, DatasetRow, check_items, kept_item
from services.write.gateway.experiments import RunLookup
from services.write.gateway.schema_sandbox import Fault, SchemaSandbox
from services.write.gateway.schema_sandbox_child import validate
from shared.rules.datasets import check_item
from shared.rules.experiment_ids import dataset_id_of, item_id_of
from shared.runtime.fairness import Turns
from shared.runtime.refusal import InvalidError, UnavailableError
from shared.runtime.settings import MIB
from shared.storage.postgres import connect_pool
from tests.support.admission import open_room
from tests.support.experiments import item

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


def described(**fields: Any) -> DatasetRow:
    """The dataset "questions"."""
    its: dict[str, Any] = {"version": 1, "archived": False, "input_schema": "", "expected_output_schema": ""}
    return DatasetRow(**{"dataset_id": dataset_id_of("questions"), "name": "questions", **its, **fields})


def raw(**fields: Any) -> DatasetItemRecorded:
    """An item as it is asked for: without ids."""
    return DatasetItemRecorded(**fields)


class Inline(SchemaSandbox):
    """Validates in this process, by the same code."""

    async def find_faults(self, project_id: str, schema_json: str, texts: Sequence[str]) -> list[Fault | None]:
        faults: list[Fault | None] = validate(schema_json, texts)["texts"]
        return faults


async def outcomes(items: Sequence[DatasetItemRecorded], **fields: Any) -> list[tuple[str, str, str]]:
    checked = await check_items("acme", items, described(**fields), Inline(), turns=Turns(), room=open_room())
    taken = {outcome.item_id for outcome in checked.outcomes if not outcome.field}
    assert taken == checked.kept.keys(), "what was taken is kept, and nothing else"
    return [(outcome.item_id, outcome.field, outcome.reason) for outcome in checked.outcomes]


async def test_nothing_is_built_of_items_that_become_too_much() -> None:
    bomb = raw(item_id="bomb", input_json="[" + "[]," * 330_000 + "1]")
    await outcomes([raw(item_id="b", input_json="1")])
    tracemalloc.start()
    told = await outcomes([bomb, raw(item_id="a", input_json="[" + "1.5," * 40_000 + "1]")])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(item_id, field, "names and values" in reason) for item_id, field, reason in told] == [
        ("bomb", "input_json", True),
        ("a", "", False),
    ]
    assert peak < 16 * MIB, "a list of 330,000 lists has 21"


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
    told = validate(schema, ["1"])
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
    (fault,) = validate(schema, [text])["texts"]
    assert (fault is None) == fits


def test_a_reason_is_short_whatever_is_refused() -> None:
    (fault,) = validate('{"type": "integer"}', [json.dumps("x" * 1_000_000)])["texts"]
    assert len(fault[1]) <= 400


async def test_without_a_database_writers_are_told_to_come_again() -> None:
    pool = await connect_pool("postgresql://nobody@127.0.0.1:9/nothing", application="test", min_size=0)
    try:
        with pytest.raises(UnavailableError, match="datasets can't be read"):
            await DatasetLookup(pool).find("acme", "questions")
        with pytest.raises(UnavailableError, match="runs can't be read"):
            await RunLookup(pool).find("acme", ["r"])
        assert await RunLookup(pool).find("acme", []) == set(), "nobody is asked for nothing"
    finally:
        await pool.close()


def test_an_item_is_refused_by_the_name_of_the_field() -> None:
    with pytest.raises(InvalidError) as refused:
        kept_item(raw(item_id="x" * 256, input_json="1"), dataset_id_of("questions"))
    assert refused.value.field == "item.item_id"
