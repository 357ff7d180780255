"""The tables of scores are a function of the set of events, whatever the order, the batches and the partitions were."""

import asyncio
import random
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial
from hashlib import blake2b
from typing import Any
from uuid import UUID

import pytest
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.score_event_pb2 import ScoreConfigDefined, ScoreRecorded, ScoreTarget, ScoreValue

from tests.support.projecting import Projecting, batches
from tests.support.scores import (
    SCORE_TABLES,
    Value,
    config,
    projecting_scores,
    retraction,
    score,
    score_event,
    score_record,
    trace,
)

TARGETS = (trace(1), trace(1, 2), trace(2), ScoreTarget(session_id="s"), ScoreTarget(run_id="r"))


def told(choose: random.Random) -> list[Event]:
    """Events of a few score ids: superseding each other, at equal times, moved to other targets, retracted, sent again,
    and sent again otherwise.
    """
    events = []
    for number in range(1, 30):
        values: list[Value] = [choose.random(), choose.random() < 0.5, choose.choice("abc")]
        its, target = choose.choice(["a", "b", "é"]), choose.choice(TARGETS)
        payload = (
            retraction(its, target=target)
            if choose.random() < 0.3
            else score(its, choose.choice(values), target=target, comment=str(number))
        )
        of = partial(score_event, project=choose.choice(["p", "q"]), number=number)
        event = of(payload, at_s=choose.randint(0, 8))
        events.append(event)
        if choose.random() < 0.3:
            events.append(event)
        if choose.random() < 0.3:
            events.append(of(payload, at_s=choose.randint(0, 8)))
        if choose.random() < 0.2:
            events.append(of(score(its, 9.0, target=target), at_s=choose.randint(0, 8)))
        if choose.random() < 0.2:
            events.append(of(config("c", description=str(number)), at_s=choose.randint(0, 8)))
    return events


def payload_of(event: Event) -> Any:
    kind = event.WhichOneof("payload")
    assert kind is not None
    return getattr(event, kind)


def present(events: Iterable[Event]) -> Mapping[tuple[str, str], tuple[datetime, str, bool]]:
    """What must hold under each score id, said in the plainest way: the first telling of each event, the last event."""

    def precedence(event: Event) -> tuple[datetime, bytes]:
        raw = payload_of(event).SerializeToString(deterministic=True)
        return event.occurred_at.ToDatetime(), blake2b(raw, digest_size=16).digest()

    first: dict[tuple[str, str, str], Event] = {}
    for event in sorted(events, key=precedence, reverse=True):
        if event.WhichOneof("payload") != "score_config_defined":
            first[event.project_id, payload_of(event).score_id, event.event_id] = event
    last: dict[tuple[str, str], tuple[datetime, str, bool]] = {}
    for (project, score_id, event_id), event in first.items():
        its = event.occurred_at.ToDatetime(), event_id, event.WhichOneof("payload") == "score_retracted"
        last[project, score_id] = max(its, last.get((project, score_id), its))
    return last


async def stored(projection: Projecting) -> dict[tuple[str, str], tuple[datetime, str, bool]]:
    rows = await projection.pool.fetch("SELECT project_id, score_id, scored_at, event_id, retracted FROM scores")
    return {
        (row["project_id"], row["score_id"]): (
            row["scored_at"].replace(tzinfo=None),
            str(row["event_id"]),
            row["retracted"],
        )
        for row in rows
    }


@pytest.mark.parametrize("seed", range(8))
async def test_the_tables_do_not_depend_on_the_order(database, seed: int) -> None:
    choose = random.Random(seed)
    events = told(choose)
    # One record a partition, so that any order of folding is one that could happen; six are folded at the same time.
    records = [score_record(event, partition=n) for n, event in enumerate(events)]
    async with projecting_scores(database) as projection:
        await projection.fold(*records)
        expected = await projection.dump(*SCORE_TABLES)
        assert await stored(projection) == present(events)
        for _ in range(5):
            await projection.pool.execute(f"TRUNCATE {', '.join(SCORE_TABLES)}, projection_positions")
            shuffled = [*records, *choose.choices(records, k=5)]
            choose.shuffle(shuffled)
            for batch in batches(shuffled, [choose.randint(1, 20) for _ in range(4)]):
                await projection.fold(*batch)
            assert await projection.dump(*SCORE_TABLES) == expected
        assert await projection.count("dead_letters") == 0


@pytest.mark.parametrize("seed", range(3))
async def test_one_partitions_records_in_any_batches(database, seed: int) -> None:
    choose = random.Random(seed)
    events = told(choose)
    records = [score_record(event, offset=n) for n, event in enumerate(events)]
    async with projecting_scores(database) as projection:
        for batch in batches(records, [choose.randint(1, 30) for _ in range(3)]):
            await projection.fold(*batch)
        assert await stored(projection) == present(events)


async def test_two_processes_write_under_the_same_ids_at_the_same_time(database) -> None:
    """Two events of one score id with different targets lie in different partitions."""
    choose = random.Random(7)
    ids = [f"s{n}" for n in range(40)]
    events = [
        score_event(
            score(choose.choice(ids), float(n), target=choose.choice(TARGETS)), number=n + 1, at_s=choose.randint(0, 50)
        )
        for n in range(1_200)
    ]
    runs = [[score_record(event, partition=n, offset=k) for k, event in enumerate(events[n::12])] for n in range(12)]
    async with projecting_scores(database) as one, projecting_scores(database) as other:

        async def fold(projection: Projecting, run: list[Any]) -> None:
            for batch in batches(run, [7, 13]):
                await projection.fold(*batch)

        await asyncio.gather(*(fold(one if n % 2 else other, run) for n, run in enumerate(runs)))
        assert await stored(one) == present(events)
        assert await one.count("score_history") == len(events)


async def test_projects_never_meet_in_a_score_id(database) -> None:
    async with projecting_scores(database) as projection:
        mine, theirs = (score_event(score("same", 1.0), number=1, at_s=at, project=p) for at, p in ((1, "p"), (2, "q")))
        gone = score_event(retraction("same"), number=2, at_s=3, project="q")
        await projection.fold(*(score_record(event, offset=n) for n, event in enumerate((mine, theirs, gone))))
        assert [retracted for _, (_, _, retracted) in sorted((await stored(projection)).items())] == [False, True]


async def test_what_the_database_refuses_costs_only_itself(database) -> None:
    cleaned = score("cleaned", comment="a\0b")
    huge = score("huge", name="x" * 9)
    huge.value.CopyFrom(ScoreValue(categorical="".join(chr(0x4E00 + n) for n in range(20_000))))
    async with projecting_scores(database) as projection:
        payloads: list[ScoreRecorded | ScoreConfigDefined] = [
            score("1"),
            cleaned,
            score("2"),
            huge,
            config("c", description="\0"),
            config("d"),
        ]
        records = [score_record(score_event(p, number=n + 1), offset=n) for n, p in enumerate(payloads)]
        await projection.fold(*records)
        rows = await projection.pool.fetch("SELECT score_id FROM scores ORDER BY 1")
        assert [row["score_id"] for row in rows] == ["1", "2", "cleaned"]
        letters = await projection.pool.fetch('SELECT "offset", item, raw, reason FROM dead_letters ORDER BY 1')
        assert [letter["offset"] for letter in letters] == [3]
        assert [letter["raw"] for letter in letters] == [records[3].raw]
        assert await projection.count("score_config_history") == 2


async def test_the_present_config_is_the_last_defined(database) -> None:
    async with projecting_scores(database) as projection:
        events = [
            score_event(config("c", description="second"), number=2, at_s=2),
            score_event(config("c", description="first"), number=1, at_s=1),
            score_event(config("c", description="theirs"), number=3, at_s=3, project="q"),
        ]
        await projection.fold(*(score_record(event, offset=n) for n, event in enumerate(events)))
        rows = await projection.pool.fetch("SELECT project_id, description, event_id FROM score_configs ORDER BY 1")
        assert [tuple(row) for row in rows] == [("p", "second", UUID(int=2)), ("q", "theirs", UUID(int=3))]
