"""Validation by schemas has processes of its own: no schema takes the gateway along, nor those who use another one."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from services.write.gateway import schema_sandbox
from services.write.gateway.datasets import DatasetRow, check_items
from services.write.gateway.schema_sandbox import SchemaError, SchemaSandbox, SpecError
from shared.rules.experiment_ids import dataset_id_of
from shared.runtime.fairness import Turns
from shared.runtime.refusal import RefusedError, UnavailableError
from tests.support.admission import open_room
from tests.support.experiments import item


def described(input_schema: str) -> DatasetRow:
    """The dataset "questions"."""
    return DatasetRow(dataset_id_of("questions"), "questions", 1, False, input_schema, "")


@asynccontextmanager
async def open_sandbox() -> AsyncIterator[SchemaSandbox]:
    sandbox = SchemaSandbox()
    try:
        yield sandbox
    finally:
        await sandbox.close()


def endless() -> str:
    """A schema that asks for 2 ** 60 looks at one number."""
    definitions: dict[str, Any] = {
        f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}, {"$ref": f"#/$defs/a{n + 1}"}]} for n in range(60)
    }
    return json.dumps({"$ref": "#/$defs/a0", "$defs": {**definitions, "a60": {"type": "number"}}})


async def test_a_schema_that_takes_for_ever_costs_seconds_and_only_those_who_use_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schema_sandbox, "_COMMAND", (*schema_sandbox._COMMAND[:-1], "0.2"))
    never, fine = described(input_schema=endless()), described(input_schema="true")
    async with open_sandbox() as sandbox:
        await sandbox.check_schema("quiet", "true")
        room = open_room()
        hostile = [
            asyncio.create_task(check_items("loud", [item("a", "1")], never, sandbox, turns=Turns(), room=room))
            for _ in range(2)
        ]
        checked = await check_items("quiet", [item("a", "1")], fine, sandbox, turns=Turns(), room=room)
        assert checked.kept.keys() == {"a"}
        assert not any(task.done() for task in hostile), "nobody else waits for them"
        for task in hostile:
            with pytest.raises(RefusedError, match=r"schema of input_json takes more than") as refused:
                await task
            assert refused.value.code == grpc.StatusCode.FAILED_PRECONDITION
        assert (await check_items("loud", [item("a", "1")], fine, sandbox, turns=Turns(), room=room)).kept.keys() == {
            "a"
        }


async def test_a_process_that_was_killed_is_followed_by_another() -> None:
    async with open_sandbox() as sandbox:
        for _ in range(3):
            await sandbox.check_schema("acme", "true")
            running = [each._child.process for each in sandbox._processes if each._child]
            running[0].kill()  # whether or not that is known yet
        with pytest.raises(SchemaError, match="is no JSON Schema that is taken"):
            await sandbox.check_schema("acme", '{"type": 1}')


async def test_a_caller_who_hangs_up_leaves_no_response_to_another() -> None:
    async with open_sandbox() as sandbox:
        await sandbox.check_schema("acme", "true")
        hung_up = asyncio.create_task(sandbox.find_faults("acme", endless(), ["1"]))
        await asyncio.wait([hung_up], timeout=0.1)
        hung_up.cancel()
        await asyncio.gather(hung_up, return_exceptions=True)
        assert await sandbox.find_faults("acme", "true", ["1", "2"]) == [None, None]


async def test_what_waits_for_one_project_is_bounded() -> None:
    large = [json.dumps("x" * 3_000_000)]
    async with open_sandbox() as sandbox:
        outcomes = await asyncio.gather(
            *(sandbox.find_faults("loud", "true", large) for _ in range(4)), return_exceptions=True
        )
        assert [isinstance(each, UnavailableError) for each in outcomes] == [False, False, True, True]
        assert await sandbox.find_faults("loud", "true", large * 4) == [None] * 4, "alone, it may have more"


async def test_evaluators_that_take_for_ever_to_compile_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [{"kind": "regex", "pattern": f"(a|b|c|{n}){{1,1000}}", "name": f"{n}"} for n in range(200)]
    async with open_sandbox() as sandbox:
        assert await sandbox.evaluator_names("acme", {"evaluators_json": specs[:2]}) == {"evaluators_json": ["0", "1"]}
    monkeypatch.setattr(schema_sandbox, "_COMMAND", (*schema_sandbox._COMMAND[:-1], "0.2"))
    async with open_sandbox() as sandbox:
        with pytest.raises(SpecError, match="takes more than"):
            await sandbox.evaluator_names("acme", {"evaluators_json": specs})
