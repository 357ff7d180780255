"""A worker keeps to its memory, whatever runs ask for: what would be too much is an item's error, after one attempt."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import psutil
import pytest
from lodestream_proto.v1.experiment_event_pb2 import EXPERIMENT_OUTCOME_FAILED

from services.all_in_one.processes import Process
from shared.runtime.settings import EvaluatorSettings
from tests.support.evaluating import Workplace, working
from tests.support.experiment_runs import (
    PublishedEvents,
    append_events,
    ended,
    furnish_dataset,
    furnish_prompt,
    requested,
)

LONG = "days and nights " * 6_200
"""99 KB, one sentence, which the mock model quotes."""


@pytest.fixture(scope="module")
async def place(ground, servers, template, tmp_path_factory) -> AsyncIterator[Workplace]:
    """One worker for all tests of this file; each has a project of its own."""
    async with working(ground, servers, template, tmp_path_factory.mktemp("providers")) as workplace:
        await workplace.worker()
        yield workplace


@pytest.fixture
def project() -> str:
    return f"p{uuid4().hex[:10]}"


def schema_of(size: int) -> dict[str, Any]:
    """A response format of about so many bytes, each of whose properties the mock model fills with a text."""
    properties = {f"property-{n:07}": {"type": "string"} for n in range(size // 40)}
    return {"type": "json_schema", "json_schema": {"name": "much", "schema": {"properties": properties}}}


async def most_memory(worker: Process, run: "asyncio.Task[PublishedEvents]") -> int:
    """The most bytes that the worker's process had resident until the run had ended."""
    assert worker.pid is not None
    process, most = psutil.Process(worker.pid), 0
    while not run.done():
        most = max(most, process.memory_info().rss)
        await asyncio.wait([run], timeout=0.05)
    return most


async def test_a_schema_that_repeats_a_long_text_is_an_error_of_the_item(place, project) -> None:
    """Items of 99 KB and a schema of 120 KB: filled in, each answer would have 300 MB. One of 270 KB is no setting."""
    await furnish_dataset(place.dsn, project, 4)
    await furnish_prompt(place.dsn, project, placeholder="history")
    item_input = {"history": [{"role": "user", "content": LONG}], "question": "How many days and nights?"}
    await place.value(
        "UPDATE experiments.dataset_items SET input = $2 WHERE project_id = $1 RETURNING 1",
        project,
        json.dumps(item_input),
    )
    runs = [
        requested(f"{size}", project=project, settings={"latency_seconds": 0, "response_format": schema_of(size)})
        for size in (120_000, 270_000)
    ]
    await append_events(place.servers.kafka, *runs)
    run = asyncio.create_task(ended(place.log, project, "120000", "270000"))
    most = await most_memory(place.started[0], run)
    published = await run
    results = published.of("120000")
    assert len(results) == 4
    assert {(result.attempts, "would have more than" in result.error) for result in results} == {(1, True)}
    (ending,) = published.endings["270000"]
    assert (ending.outcome, published.of("270000")) == (EXPERIMENT_OUTCOME_FAILED, [])
    assert ending.reason.startswith("task_json.settings.response_format: has 2")
    assert most < EvaluatorSettings().memory_bytes


async def test_what_a_project_may_not_send_arrives_at_no_endpoint(place, project) -> None:
    """As if the gateway had not looked: a setting that is none fails the run, a part of a message its item."""
    await furnish_dataset(place.dsn, project, 2)
    image = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest/meta-data"}}
    history = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}]
    await place.value(
        "UPDATE experiments.dataset_items SET input = $2 WHERE project_id = $1 AND item_id = 'item-00001' RETURNING 1",
        project, json.dumps({"question": "?", "history": history}),
    )  # fmt: skip
    await place.value(
        "UPDATE experiments.dataset_items SET input = $2 WHERE project_id = $1 AND item_id = 'item-00000' RETURNING 1",
        project, json.dumps({"question": project, "history": []}),
    )  # fmt: skip
    await furnish_prompt(place.dsn, project, placeholder="history")
    await append_events(
        place.servers.kafka,
        requested("set", project=project, provider="here", settings={"api_base": "http://169.254.169.254"}),
        requested("part", project=project, provider="here"),
    )
    published = await ended(place.log, project, "set", "part")
    assert published.endings["set"][0].reason.startswith("task_json.settings.api_base: is not for a run to set")
    answered, refused = published.of("part")
    assert (answered.error, refused.attempts) == ("", 1)
    assert refused.error.startswith("messages[1].content[1].image_url.url: images of other hosts are not sent")
    assert [call["messages"][-1]["content"] for call in place.model.calls] == [project]
