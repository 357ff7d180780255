"""What judging by schemas may take of a worker, and that what is not a schema's fault is no result."""

import asyncio
from typing import Any

import pytest
from lodestream.evaluators import (
    Case,
    EvaluatorError,
    SchemaCrashError,
    SchemaFindings,
    SchemaTimeoutError,
    SchemaUnansweredError,
    evaluator_of,
)

from services.write.evaluator.evaluator_runner import EvaluationClock, EvaluatorRunner
from services.write.evaluator.schema_validation import (
    MAX_ITEM_SECONDS,
    MAX_TIMEOUTS,
    EvaluationDelayedError,
    SchemaUsage,
    SchemaValidator,
)


class Process:
    """Does what it is told, in turn; then it finds no problems."""

    def __init__(self, *outcomes: Exception | SchemaFindings) -> None:
        self.outcomes = list(outcomes)
        self.calls = 0

    async def judge(self, _schema: str, _value: str, *, formats: bool) -> SchemaFindings:
        self.calls += 1
        await asyncio.sleep(0)
        outcome = self.outcomes.pop(0) if self.outcomes else SchemaFindings([], 0.0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def schemas_of(process: Process, now: float = 0.0) -> SchemaValidator:
    processes: Any = [process]
    return SchemaValidator(processes, clock=lambda: now)


async def problems(
    schemas: SchemaValidator, item: SchemaUsage, schema: str = "{}", *, project: str = "p"
) -> list[dict[str, str]]:
    return await schemas.problems(project, item, schema, "1", formats=False)


async def test_the_schemas_of_one_item_take_no_more_than_its_share_together() -> None:
    process = Process(SchemaFindings([], MAX_ITEM_SECONDS / 2), SchemaFindings([], MAX_ITEM_SECONDS / 2))
    schemas, item = schemas_of(process), SchemaUsage()
    for _ in range(2):
        assert await problems(schemas, item) == []
    with pytest.raises(EvaluatorError, match="this one was not tried"):
        await problems(schemas, item)
    assert process.calls == 2
    assert await problems(schemas, SchemaUsage()) == [], "the next item has its own share"


async def test_a_schema_that_takes_too_long_again_and_again_is_left_alone() -> None:
    process = Process(*[SchemaTimeoutError("long")] * MAX_TIMEOUTS)
    schemas = schemas_of(process)
    for _ in range(MAX_TIMEOUTS):
        with pytest.raises(SchemaTimeoutError):
            await problems(schemas, SchemaUsage(), "slow")
    with pytest.raises(EvaluatorError, match="3 outputs in a row"):
        await problems(schemas, SchemaUsage(), "slow")
    assert process.calls == MAX_TIMEOUTS
    assert await problems(schemas, SchemaUsage(), "quick") == []
    assert await problems(schemas, SchemaUsage(), "slow", project="another") == []


async def test_a_machine_that_is_too_busy_is_no_result() -> None:
    """The item is judged again later, however its evaluator was made."""
    schemas = schemas_of(Process(*[SchemaUnansweredError("busy")] * 3))
    runner: Any = EvaluatorRunner(None, None, schemas, ["p", "run", "item", 0], attempts=1)  # type: ignore[arg-type]
    evaluator = evaluator_of({"kind": "json_schema", "schema": {"type": "integer"}})
    with pytest.raises(EvaluationDelayedError, match="busy"):
        await runner.evaluate([evaluator], Case(output="1"), seconds=10)
    (outcome,) = await runner.evaluate([evaluator], Case(output="1"), seconds=10)
    assert outcome.evaluation.value is True


async def test_a_crash_may_be_somebody_elses_and_two_are_the_schemas() -> None:
    crash = SchemaCrashError("crashed")
    assert await problems(schemas_of(Process(crash)), SchemaUsage()) == []
    with pytest.raises(SchemaCrashError):
        await problems(schemas_of(Process(crash, crash)), SchemaUsage())


async def test_who_gives_up_waiting_leaves_no_turn_taken() -> None:
    process = Process()
    schemas = schemas_of(process)
    waiting = [asyncio.create_task(problems(schemas, SchemaUsage())) for _ in range(5)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await problems(schemas, SchemaUsage()) == []


async def test_the_time_of_an_evaluator_stands_still_while_it_waits() -> None:
    async with asyncio.timeout(10) as timeout:
        deadline, clock = timeout.when(), EvaluationClock(timeout)
        resume, other = clock.pause(), clock.pause()
        await asyncio.sleep(0)
        assert timeout.when() is None
        resume()
        resume()
        assert timeout.when() is None, "one wait is not over"
        other()
        later = timeout.when()
        assert deadline is not None
        assert later is not None
        assert later >= deadline
        clock.end()
        clock.pause()
        assert timeout.when() == later
