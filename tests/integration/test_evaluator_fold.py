"""The fold of the queue on a real Postgres without Kafka: any batches, any redelivery give the same rows."""

import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiments_pb2 import (
    EXPERIMENT_STATE_CANCELLED,
    EXPERIMENT_STATE_PAUSED,
    EXPERIMENT_STATE_RUNNING,
)

from services.write.evaluator.fold import RunsFold
from shared.event_log.assignment import Assignment
from shared.event_log.codec import LogRecord, read
from shared.event_log.topics import EXPERIMENTS
from shared.projection.projector import Projector
from shared.storage.postgres import connect_pool
from tests.support.experiment_runs import cancelled, item_finished, paused, requested, resumed
from tests.support.projecting import Projecting, batches
from tests.support.records import NOON

P = "p"
PAUSE, RESUME = paused("a", project=P), resumed("a", project=P)
STORY: Sequence[Event] = [
    item_finished("a", "too-early", project=P),
    cancelled("a", project=P),
    paused("a", project=P),
    requested("a", project=P),
    requested("b", project=P, task_json='{"kind": "sdk"}'),
    requested("c", project=P, task_json='{"kind": "prompt"}'),
    requested("a", project=P, repetitions=9),
    item_finished("a", "one", project=P),
    item_finished("b", "one", project=P),
    PAUSE,
    item_finished("a", "two", project=P),
    item_finished("a", "one", project=P),
    RESUME,
    PAUSE,
    item_finished("a", "one", project=P, repetition=1),
    requested("d", project=P),
    cancelled("d", project=P),
    resumed("d", project=P),
    paused("e", project=P),
]


@pytest.fixture
async def folding(database: str) -> AsyncIterator[Projecting]:
    pool = await connect_pool(database, application="test", search_path="evaluator, lodestream", max_size=4)
    yield Projecting(Projector(pool, RunsFold(), Assignment()), pool)
    await pool.close()


def records(events: Sequence[Event]) -> list[LogRecord]:
    at = int(NOON.timestamp() * 1000)
    return [read(EXPERIMENTS, 0, n, at + n, event.SerializeToString()) for n, event in enumerate(events)]


async def rows(folding: Projecting) -> dict[str, list[tuple[Any, ...]]]:
    """All that does not tell when it was written."""
    queries = {
        "runs": "SELECT run_id, state, request, requested_at, outcome, reason FROM runs ORDER BY 1",
        "jobs": "SELECT run_id, item_id, repetition, state FROM jobs ORDER BY 1, 2, 3",
        "events": "SELECT run_id, event_id FROM run_events ORDER BY 1, 2",
        "dead letters": "SELECT reason FROM dead_letters ORDER BY 1",
    }
    return {name: [tuple(row) for row in await folding.pool.fetch(query)] for name, query in queries.items()}


async def test_what_a_story_comes_to(folding: Projecting) -> None:
    await folding.fold(*records(STORY))
    tables = await rows(folding)
    assert [(row[0], row[1]) for row in tables["runs"]] == [
        ("a", EXPERIMENT_STATE_RUNNING),
        ("c", EXPERIMENT_STATE_RUNNING),
        ("d", EXPERIMENT_STATE_CANCELLED),
    ]
    assert [row[5] for row in tables["runs"]] == ["", "task_json.prompt: is missing", ""]
    assert tables["jobs"] == [("a", "one", 0, 3), ("a", "one", 1, 3), ("a", "two", 0, 3)]
    assert not tables["dead letters"]


async def test_any_batches_any_redelivery_and_a_fold_from_nothing_give_the_same(folding: Projecting) -> None:
    story = records(STORY)
    await folding.fold(*story)
    once = await rows(folding)
    for seed in range(12):
        chance = random.Random(seed)
        await folding.pool.execute("TRUNCATE runs, jobs, run_events, projection_positions")
        for batch in batches(story, [chance.randint(1, 5) for _ in range(6)]):
            await folding.fold(*batch)
            if chance.random() < 0.5:
                await folding.fold(*story[: batch[-1].offset + 1])
        assert await rows(folding) == once, seed


async def test_a_pause_counts_once(folding: Projecting) -> None:
    story = records([requested("a", project=P), PAUSE, RESUME, PAUSE, paused("a", project=P)])
    states = []
    for record in story:
        await folding.fold(record)
        states.append(await folding.pool.fetchval("SELECT state FROM runs"))
    running, still = EXPERIMENT_STATE_RUNNING, EXPERIMENT_STATE_PAUSED
    assert states == [running, still, running, running, still]
