"""One item: the task, the evaluators, and what is told of both."""

import asyncio
import datetime as dt
import time
from collections.abc import Sequence
from typing import Any

from lodestream._experiments.calling import call
from lodestream._experiments.evaluators import Judge, Known, each_name_once, said_by
from lodestream._experiments.judgement import Judgement
from lodestream._experiments.plan import Plan
from lodestream._experiments.recording import ItemTrace, Records
from lodestream._experiments.rows import Row
from lodestream._results import ItemResult

_MAX_ERROR = 10_000


async def run_item(plan: Plan, records: Records, row: Row, repetition: int) -> ItemResult:
    """What came of it, recorded. Only being cancelled is raised, and then nothing is recorded of it."""
    with records.item(row, repetition) as trace:
        began, clock = dt.datetime.now(dt.UTC), time.perf_counter()
        output, error = await _outcome(plan, records, trace, row.fresh(), repetition)
        latency = time.perf_counter() - clock
        known = _known(row.fresh(), repetition, trace, output=output, error=error, latency=latency)
        judgements = await _judged(plan, records, known)
        if not error:
            trace.root.update(output=output)
    result = ItemResult(
        item=row.given,
        item_id=row.id,
        repetition=repetition,
        input=row.input,
        expected_output=row.expected_output,
        metadata=row.metadata,
        output=output,
        error=error,
        judgements=judgements,
        trace_id=trace.trace_id,
        started_at=began,
        latency=latency,
        input_tokens=trace.usage.input_tokens,
        output_tokens=trace.usage.output_tokens,
        cost_usd=trace.usage.cost_usd,
    )
    return records.finished(result)


async def _outcome(plan: Plan, records: Records, trace: ItemTrace, row: Row, repetition: int) -> tuple[Any, str]:
    """What the task returned, and why it failed."""
    known = {
        "item": row.given,
        "input": row.input,
        "expected_output": row.expected_output,
        "metadata": row.metadata,
        "item_id": row.id,
        "repetition": repetition,
        "run_name": plan.run_name,
    }
    try:
        with records.task(trace, row) as observation:
            output = await call(plan.task, known, timeout=plan.item_timeout)
            observation.update(output=output)
    except Exception as error:
        told = f"{type(error).__name__}: {error}"[:_MAX_ERROR]
        trace.root.update(level="ERROR", status_message=told)
        return None, told
    return output, ""


async def _judged(plan: Plan, records: Records, known: Known) -> Sequence[Judgement]:
    judges = [judge for judge in plan.judges if judge.judges_failures or not known["error"]]
    said = await asyncio.gather(*(_said(records, judge, known) for judge in judges))
    judgements = each_name_once([judgement for of_one in said for judgement in of_one])
    if plan.composite is None or known["error"]:
        return judgements
    evaluations = [each.evaluation for each in judgements if each.evaluation is not None]
    together = await _said(records, plan.composite, {**known, "evaluations": evaluations})
    return each_name_once([*judgements, *together])


async def _said(records: Records, judge: Judge, known: Known) -> list[Judgement]:
    if not judge.watched:
        return await said_by(judge, known)
    told = {"output": known["output"], "expected_output": known["expected_output"]}
    with records.observed(judge.name, "evaluator", input=told) as observation:
        said = await said_by(judge, known)
        if failed := next((each.error for each in said if each.error), ""):
            observation.update(level="ERROR", status_message=failed)
        observation.update(output={each.name: each.evaluation.value for each in said if each.evaluation is not None})
    return said


def _known(row: Row, repetition: int, trace: ItemTrace, *, output: Any, error: str, latency: float) -> Known:
    """What evaluators can ask for, and what built-in ones are given."""
    return {
        "input": row.input,
        "output": output,
        "expected_output": row.expected_output,
        "expected": row.expected_output,
        "reference": row.expected_output,
        "metadata": row.metadata,
        "item": row.given,
        "example": row.given,
        "item_id": row.id,
        "trace_id": trace.trace_id,
        "latency": latency,
        "latency_seconds": latency,
        "repetition": repetition,
        "error": error,
        "input_tokens": trace.usage.input_tokens,
        "output_tokens": trace.usage.output_tokens,
        "cost_usd": trace.usage.cost_usd,
    }
