"""A worker keeps to its memory, whatever runs ask for: what would be too much is an item's error, after one attempt."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import psutil
import pytest

from services.all_in_one.processes import Process
from shared.runtime.settings import EvaluatorSettings
from tests.evaluating import Workplace, working
from tests.experiment_runs import Told, append_events, ended, furnish, requested

LONG = "It takes 14 days. " * 5_500
"""99 KB, the question of each item."""


@pytest.fixture(scope="module")
async def place(ground, servers, template, tmp_path_factory) -> AsyncIterator[Workplace]:
    async with working(ground, servers, template, tmp_path_factory.mktemp("providers")) as workplace:
        yield workplace


def schema_of(size: int) -> dict[str, Any]:
    """A response format of about so many bytes, each of whose properties the mock model fills with a text."""
    properties = {f"property-{n:07}": {"type": "string"} for n in range(size // 40)}
    return {"type": "json_schema", "json_schema": {"name": "much", "schema": {"properties": properties}}}


async def most_memory(worker: Process, run: "asyncio.Task[Told]") -> int:
    """The most bytes that the worker's process had resident until the run had ended."""
    assert worker.pid is not None
    process, most = psutil.Process(worker.pid), 0
    while not run.done():
        most = max(most, process.memory_info().rss)
        await asyncio.wait([run], timeout=0.05)
    return most


async def test_a_schema_that_repeats_a_long_text_is_an_error_of_the_item(place) -> None:
    """Four items of 99 KB and a schema of 270 KB: filled in, each answer would have 670 MB."""
    project = f"p{uuid4().hex[:10]}"
    await furnish(place.dsn, project, 4)
    await place.value(
        "UPDATE experiments.dataset_items SET input = $2 WHERE project_id = $1 RETURNING 1",
        project, json.dumps({"question": LONG}),
    )  # fmt: skip
    worker = await place.worker()
    settings = {"latency_seconds": 0, "response_format": schema_of(270_000)}
    await append_events(place.servers.kafka, requested("r", project=project, settings=settings))
    run = asyncio.create_task(ended(place.log, project, "r"))
    most = await most_memory(worker, run)
    results = (await run).of("r")
    assert len(results) == 4
    assert {(its.attempts, "would have more than" in its.error) for its in results} == {(1, True)}
    assert most < EvaluatorSettings().memory_bytes
