"""Outputs are held against schemas in processes beside the worker: each project has its turn, and none has our keys."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from lodestream.evaluators import Case, SchemaProcess, evaluator_of

from services.write.evaluator.evaluator_runner import EvaluatorRunner
from services.write.evaluator.items import EvaluatorOutcome
from services.write.evaluator.schema_validation import SchemaValidator
from services.write.gateway.schema_sandbox import SchemaSandbox

CANARY = "sk-canary-of-a-provider"


@pytest.fixture
async def schemas() -> AsyncIterator[SchemaValidator]:
    schemas = SchemaValidator()
    yield schemas
    await schemas.aclose()


def endless(n: int) -> dict[str, Any]:
    """A schema that asks for 2 ** 60 looks at one number."""
    rules = {f"at{level}": {"allOf": [{"$ref": f"#/$defs/at{level - 1}"}] * 2} for level in range(1, 61)}
    return {"$defs": {"at0": {"type": "integer"}, **rules}, "$ref": "#/$defs/at60", "title": f"{n}"}


async def judged(
    schemas: SchemaValidator, project: str, *specs: dict[str, Any], seconds: float
) -> list[EvaluatorOutcome]:
    runner: Any = EvaluatorRunner(None, None, schemas, [project, "run", "item", 0], attempts=1)  # type: ignore[arg-type]
    evaluators = [evaluator_of({"kind": "json_schema", "name": f"{n}", "schema": spec}) for n, spec in enumerate(specs)]
    result: list[EvaluatorOutcome] = await runner.evaluate(evaluators, Case(output="14"), seconds=seconds)
    return result


async def test_schemas_of_others_that_never_end_cost_a_good_one_its_turn_and_nothing_else(schemas) -> None:
    """Both processes are taken, and 40 more wait; a good schema that waits longer than it may take is judged."""
    loud = [
        asyncio.create_task(judged(schemas, project, *(endless(n) for n in range(20)), seconds=60))
        for project in ("loud", "louder")
    ]
    await asyncio.sleep(0)
    while not schemas._free.empty():
        await asyncio.sleep(0.01)
    (outcome,) = await judged(schemas, "quiet", {"type": "integer"}, seconds=0.05)
    assert (outcome.error, outcome.evaluation and outcome.evaluation.value) == ("", True)
    assert not any(task.done() for task in loud), "nobody else waits for them"
    for task in loud:
        task.cancel()
    await asyncio.gather(*loud, return_exceptions=True)


async def test_who_judges_has_no_keys_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    monkeypatch.setenv("LODESTREAM_POSTGRES", CANARY)
    process, sandbox = SchemaProcess(), SchemaSandbox()
    try:
        await process.judge("true", "1", formats=False)
        await sandbox.check_schema("p", "true")
        children = [process._process, *(each._child.process for each in sandbox._processes if each._child)]
        assert len(children) == 2
        for child in children:
            assert child is not None
            assert CANARY.encode() not in Path(f"/proc/{child.pid}/environ").read_bytes()
    finally:
        process.end()
        await sandbox.close()
