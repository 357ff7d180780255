"""Evaluators keep to bounds whatever they are given: time, memory, what a score may hold, what is installed."""

import asyncio
import json
import multiprocessing
import subprocess
import sys
import time
from typing import Any

import pytest
from lodestream import Evaluation
from lodestream.evaluators import (
    Answer,
    Case,
    EvaluatorError,
    EvaluatorSpecError,
    Judged,
    Tools,
    evaluator_of,
    run_evaluator_of,
)

MOST_METADATA = 65_536  # bytes that the server takes of a score
HOSTILE = "\x01\U0001f600" * 5_000  # characters that JSON and UTF-8 write with many bytes


def doubling(levels):
    """A schema that asks the same twice at every level."""
    rules = {f"at{level}": {"allOf": [{"$ref": f"#/$defs/at{level - 1}"}] * 2} for level in range(1, levels + 1)}
    return {"$defs": {"at0": {"type": "integer"}, **rules}, "$ref": f"#/$defs/at{levels}"}


async def judge(schema, output):
    return (await evaluator_of({"kind": "json_schema", "schema": schema}).evaluate(Case(output=output))).value


async def test_a_schema_that_takes_for_ever_costs_only_itself():
    beats = []

    async def beat():
        while True:
            beats.append(time.monotonic())
            await asyncio.sleep(0.02)

    beating = asyncio.create_task(beat())
    slow = asyncio.create_task(judge(doubling(60), "14"))
    others = [asyncio.create_task(judge({"type": "integer"}, "14")) for _ in range(20)]
    with pytest.raises(EvaluatorError, match="takes longer than 2 s for this output"):
        await slow
    assert await asyncio.gather(*others) == [True] * 20
    beating.cancel()
    assert len(beats) > 20, "the program went on meanwhile"


async def test_a_validator_that_is_killed_is_started_again():
    assert await judge(True, "1") is True
    from lodestream_evals.evaluators._schema_process import _the_process

    assert _the_process._process
    _the_process._process.kill()
    _the_process._process.wait()
    assert await judge({"type": "integer"}, "1") is True
    assert await asyncio.gather(*(judge({"const": number}, str(number)) for number in range(50))) == [True] * 50


def _judged_in_a_fork(pipe):
    pipe.send(asyncio.run(judge({"type": "integer"}, "14")))


async def test_a_forked_child_has_a_validator_of_its_own():
    assert await judge(True, "1") is True
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_judged_in_a_fork, args=(theirs,))
    child.start()
    assert await asyncio.to_thread(ours.poll, 30)
    assert ours.recv() is True
    child.join(30)
    assert child.exitcode == 0
    assert await judge({"type": "integer"}, "14") is True


def test_patterns_and_levels_of_schemas_are_bounded():
    nested: dict[str, Any] = {"type": "integer"}
    for _ in range(150):
        nested = {"properties": {"x": nested}}
    for schema in (
        {"allOf": [{"pattern": f"a{number}"} for number in range(101)]},
        {"patternProperties": {f"a{number}": True for number in range(101)}},
        {"pattern": r"\w{1000}{1000}"},
        nested,
    ):
        with pytest.raises(EvaluatorSpecError) as refused:
            evaluator_of({"kind": "json_schema", "schema": schema})
        assert refused.value.field == "schema"


async def ask(messages, *, provider, model, settings):
    return Answer(text=json.dumps({"reasoning": HOSTILE, "choice": messages and f"choice {settings['seed']}"}))


@pytest.mark.parametrize(
    ("spec", "output"),
    [
        ({"kind": "contains", "value": [f"{number}{HOSTILE}" for number in range(50)]}, "x"),
        ({"kind": "regex", "pattern": "(?s).*"}, HOSTILE),
        ({"kind": "exact_match", "value": {HOSTILE: 1}}, json.dumps({HOSTILE: 2})),
        (
            {"kind": "json_schema", "schema": {"additionalProperties": {"const": HOSTILE}}},
            {f"{number}{HOSTILE}": HOSTILE for number in range(20)},
        ),
        ({"kind": "numeric_tolerance", "value": 1}, HOSTILE),
        ({"kind": "token_f1", "value": HOSTILE}, HOSTILE),
        (
            {
                "kind": "llm_judge", "rubric": "".join(f"{{{{{name}{HOSTILE[:1000]}}}}}" for name in range(30)),
                "votes": 15, "provider": "p", "model": "m", "choices": [f"choice {seed}" for seed in range(15)],
                "max_characters": 100,
            },
            "x",
        ),
    ],
    ids=lambda given: str(given)[:40],
)  # fmt: skip
async def test_what_is_said_fits_into_a_score(spec, output):
    case = Case(input={f"{name}{HOSTILE[:1000]}": HOSTILE for name in range(30)}, output=output)
    evaluation = await evaluator_of(spec).evaluate(case, Tools(ask=ask))
    assert evaluation.comment
    assert len(json.dumps(dict(evaluation.metadata or {})).encode()) < MOST_METADATA


async def test_what_is_said_of_a_run_fits_into_a_score():
    run = [
        Judged(
            case=Case(latency_seconds=1.0),
            evaluations=[Evaluation(name="right", value=False, comment=HOSTILE)],
            item_id=f"{number}" + "é" * 250,
        )
        for number in range(200)
    ]
    for spec in ({"kind": "pass_rate"}, {"kind": "worst_items", "of": "right", "count": 20}):
        evaluation = await run_evaluator_of(spec).evaluate(run)
        assert len(json.dumps(dict(evaluation.metadata or {})).encode()) < MOST_METADATA


def test_what_is_not_installed_is_named_and_only_missed_by_who_needs_it():
    program = """
import sys
sys.modules.update(dict.fromkeys(("re2", "jsonschema_rs", "rapidfuzz", "rapidfuzz.fuzz", "rapidfuzz.distance")))
from lodestream.evaluators import evaluator_of
evaluator_of({"kind": "contains"})
evaluator_of({"kind": "token_f1"})
for spec in ({"kind": "regex", "pattern": "x"}, {"kind": "json_schema", "schema": {}}, {"kind": "string_similarity"}):
    try:
        evaluator_of(spec)
    except ImportError as error:
        print(error)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.count("pip install 'lodestream[experiments]'") == 3


async def test_a_rubric_that_repeats_a_long_output_is_refused_before_it_is_built():
    """A kilobyte of rubric and a hundred of output would be a hundred megabytes for each vote."""
    spec = {"kind": "llm_judge", "rubric": "{{output}}" * 1_000, "provider": "mock", "model": "m", "votes": 15}
    with pytest.raises(EvaluatorError, match=r"has 100,\d{3},000 characters; at most 1,000,000 are sent"):
        await evaluator_of({**spec, "max_characters": 100_000}).evaluate(Case(output="x" * 100_000))
