"""Schemas are judged by in processes of their own: none takes the gateway along, nor those who use another one."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from services.write.gateway import schema_sandbox as judges
from services.write.gateway.datasets import Described, judge_items
from services.write.gateway.schema_sandbox import Judge, SchemaError, SpecError
from shared.rules.experiment_ids import dataset_id_of
from shared.runtime.fairness import Turns
from shared.runtime.refusal import RefusedError, UnavailableError
from tests.support.admission import open_room
from tests.support.experiments import item


def described(input_schema: str) -> Described:
    """The dataset "questions"."""
    return Described(dataset_id_of("questions"), "questions", 1, False, input_schema, "")


@asynccontextmanager
async def judging() -> AsyncIterator[Judge]:
    judge = Judge()
    try:
        yield judge
    finally:
        await judge.close()


def endless() -> str:
    """A schema that asks for 2 ** 60 looks at one number."""
    definitions: dict[str, Any] = {
        f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}, {"$ref": f"#/$defs/a{n + 1}"}]} for n in range(60)
    }
    return json.dumps({"$ref": "#/$defs/a0", "$defs": {**definitions, "a60": {"type": "number"}}})


async def test_a_schema_that_takes_for_ever_costs_seconds_and_only_those_who_use_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(judges, "_COMMAND", (*judges._COMMAND[:-1], "0.2"))
    never, fine = described(input_schema=endless()), described(input_schema="true")
    async with judging() as judge:
        await judge.check("quiet", "true")
        room = open_room()
        hostile = [
            asyncio.create_task(judge_items("loud", [item("a", "1")], never, judge, turns=Turns(), room=room))
            for _ in range(2)
        ]
        judged = await judge_items("quiet", [item("a", "1")], fine, judge, turns=Turns(), room=room)
        assert judged.kept.keys() == {"a"}
        assert not any(task.done() for task in hostile), "nobody else waits for them"
        for task in hostile:
            with pytest.raises(RefusedError, match=r"schema of input_json takes more than") as refused:
                await task
            assert refused.value.code == grpc.StatusCode.FAILED_PRECONDITION
        assert (await judge_items("loud", [item("a", "1")], fine, judge, turns=Turns(), room=room)).kept.keys() == {"a"}


async def test_who_was_killed_while_judging_is_followed_by_another() -> None:
    async with judging() as judge:
        for _ in range(3):
            await judge.check("acme", "true")
            running = [apart._line.process for apart in judge._processes if apart._line]
            running[0].kill()  # whether or not that is known yet
        with pytest.raises(SchemaError, match="is no JSON Schema that is taken"):
            await judge.check("acme", '{"type": 1}')


async def test_a_caller_who_hangs_up_gets_nobody_elses_answer() -> None:
    async with judging() as judge:
        await judge.check("acme", "true")
        hung_up = asyncio.create_task(judge.faults("acme", endless(), ["1"]))
        await asyncio.wait([hung_up], timeout=0.1)
        hung_up.cancel()
        await asyncio.gather(hung_up, return_exceptions=True)
        assert await judge.faults("acme", "true", ["1", "2"]) == [None, None]


async def test_what_waits_for_one_project_is_bounded() -> None:
    large = [json.dumps("x" * 3_000_000)]
    async with judging() as judge:
        told = await asyncio.gather(*(judge.faults("loud", "true", large) for _ in range(4)), return_exceptions=True)
        assert [isinstance(each, UnavailableError) for each in told] == [False, False, True, True]
        assert await judge.faults("loud", "true", large * 4) == [None] * 4, "alone, it may have more"


async def test_evaluators_that_take_for_ever_to_compile_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [{"kind": "regex", "pattern": f"(a|b|c|{n}){{1,1000}}", "name": f"{n}"} for n in range(200)]
    async with judging() as judge:
        assert await judge.names("acme", {"evaluators_json": specs[:2]}) == {"evaluators_json": ["0", "1"]}
    monkeypatch.setattr(judges, "_COMMAND", (*judges._COMMAND[:-1], "0.2"))
    async with judging() as judge:
        with pytest.raises(SpecError, match="takes more than"):
            await judge.names("acme", {"evaluators_json": specs})
