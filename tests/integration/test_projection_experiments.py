"""Events of datasets and runs become tables in the order of the log: in any batching, redelivered, replayed."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from lodestream_proto.v1.datasets_pb2 import DatasetChangeKind
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import (
    EXPERIMENT_OUTCOME_FAILED,
    ExperimentItemFinished,
    ExperimentRequested,
    ItemEvaluation,
)
from lodestream_proto.v1.experiments_pb2 import EXPERIMENT_STATE_CANCELLED, EXPERIMENT_STATE_FAILED

from tests.support.experiment_records import (
    DATASET_TABLES,
    EXPERIMENT_TABLES,
    again,
    archived,
    cancelled,
    created,
    empty_experiments,
    finished,
    folding_experiments,
    identity,
    item,
    item_archived,
    paused,
    record,
    records,
    requested,
    result,
    resumed,
    rows,
    said,
    usage,
)
from tests.support.projecting import Projecting, batches
from tests.support.records import event, span

NOW = "SELECT version, item_count, archived FROM datasets WHERE project_id = $1"
ITEMS = "SELECT item_id, version, until_version, first_version, archived, input FROM dataset_items ORDER BY version"
LETTERS = 'SELECT reason FROM dead_letters ORDER BY partition, "offset"'


@pytest.fixture
async def projection(database) -> AsyncIterator[Projecting]:
    async with folding_experiments(database) as projection:
        yield projection


async def test_each_change_of_a_dataset_is_a_version_with_what_held_from_and_until_it(projection) -> None:
    told = records(
        created(description="first", author="ada"),
        item("a", '"1"'),
        item("a", '"1"', author="bob"),
        item("b", '"2"', splits=["test", "hard", "test"], source_trace_id=bytes(15) + b"t"),
        item("a", '"3"', metadata_json='{"k": 1}'),
        item_archived("b", author="eve"),
        item_archived("b"),
        item("b", '"2"', splits=["hard", "test"], source_trace_id=bytes(15) + b"t"),
        created(description="second"),
        archived(author="ada"),
        archived(),
        created(description="second"),
    )
    # All in one batch, then each in one of its own: a row that is replaced is told so either way.
    for size in (len(told), 1):
        await empty_experiments(projection)
        for batch in batches(told, [size]):
            await projection.fold(*batch)
        assert await rows(projection, NOW, "p") == [(9, 2, False)]
        assert await rows(projection, ITEMS) == [
            ("a", 2, 4, 2, False, '"1"'),
            ("b", 3, 5, 3, False, '"2"'),
            ("a", 4, None, 2, False, '"3"'),
            ("b", 5, 6, 3, True, '"2"'),
            ("b", 6, None, 3, False, '"2"'),
        ]
        content = "SELECT splits, source_trace_id, created_at FROM dataset_items WHERE item_id = 'b'"
        what_b_was = (["hard", "test"], bytes(15) + b"t", told[3].appended_at)
        assert await rows(projection, content) == [what_b_was] * 3
        descriptions = "SELECT version, until_version, archived, description FROM dataset_descriptions ORDER BY 1"
        assert await rows(projection, descriptions) == [
            (1, 7, False, "first"),
            (7, 8, False, "second"),
            (8, 9, True, "second"),
            (9, None, False, "second"),
        ]
        changes = await rows(projection, "SELECT version, kind, item_id, author FROM dataset_changes ORDER BY 1")
        assert [(version, DatasetChangeKind.Name(kind)[20:], *rest) for version, kind, *rest in changes] == [
            (1, "CREATED", "", "ada"),
            (2, "ITEM_ADDED", "a", ""),
            (3, "ITEM_ADDED", "b", ""),
            (4, "ITEM_CHANGED", "a", ""),
            (5, "ITEM_ARCHIVED", "b", "eve"),
            (6, "ITEM_ADDED", "b", ""),
            (7, "DESCRIBED", "", ""),
            (8, "ARCHIVED", "", "ada"),
            (9, "CREATED", "", ""),
        ]
    assert await rows(projection, LETTERS) == []


async def test_a_run_counts_first_results_only_and_ends_once(projection) -> None:
    failed = ItemEvaluation(name="judge", error="no answer")
    first = result(
        "a", took=timedelta(seconds=2.5), output_json='"x"', usage=usage(10, 20, 5), trace_id=bytes(15) + b"t",
        evaluations=[said("score", 0.5), said("ok", True), said("tone", "warm"), failed],
    )  # fmt: skip
    last = finished(outcome=EXPERIMENT_OUTCOME_FAILED, reason="no prompt", evaluations=[said("pass_rate", 1.0)])
    asked = requested()
    told = records(
        asked,
        first,
        requested(name="another"),
        paused(),
        result("a", output_json='"y"', usage=usage(1, 1, 1)),
        result("a", repetition=1, error="timeout", usage=usage(1, 2)),
        last,
        cancelled(reason="too late"),
        resumed(),
        result("b", usage=usage(100, 0, 7)),
    )
    await projection.fold(*told)
    run = await rows(
        projection,
        "SELECT name, state, reason, ended_at, items_finished, items_failed, input_tokens, output_tokens,"
        " cost_picodollars::bigint, run_evaluations FROM experiment_runs",
    )
    evaluation = said("pass_rate", 1.0).SerializeToString()
    ended_at = told[6].appended_at
    assert run == [("run r", EXPERIMENT_STATE_FAILED, "no prompt", ended_at, 3, 1, 111, 22, 12, [evaluation])]
    ((request,),) = await rows(projection, "SELECT request FROM experiment_runs")
    assert ExperimentRequested.FromString(request) == asked.experiment_requested
    items = await rows(
        projection,
        "SELECT item_id, repetition, failed, latency_us, cost_picodollars, trace_id, finished_at FROM experiment_items"
        " ORDER BY finished_at",
    )
    assert items == [
        ("a", 0, False, 2_500_000, 5, bytes(15) + b"t", told[1].appended_at),
        ("a", 1, True, 0, None, None, told[5].appended_at),
        ("b", 0, False, 0, 7, None, told[9].appended_at),
    ]
    ((body,), *_) = await rows(projection, "SELECT result FROM experiment_items ORDER BY finished_at")
    assert ExperimentItemFinished.FromString(body) == first.experiment_item_finished
    said_of_it = "SELECT name, type, number, label FROM experiment_evaluations ORDER BY name"
    assert await rows(projection, said_of_it) == [
        ("judge", 0, None, "no answer"),
        ("ok", 3, 1.0, "true"),
        ("score", 1, 0.5, None),
        ("tone", 2, None, "warm"),
    ]


async def test_results_told_in_one_instant_have_an_order_all_the_same(projection) -> None:
    """Who has read up to one of them reads on from there, whatever is told after it."""
    await projection.fold(*(record(each, n, after_ms=0) for n, each in enumerate([requested(), result("b")])))
    await projection.fold(record(result("a"), 2, after_ms=0), record(result("c"), 3, after_ms=-5_000))
    items = await rows(projection, "SELECT item_id FROM experiment_items ORDER BY finished_at")
    assert items == [("b",), ("a",), ("c",)]
    ((instants, spread),) = await rows(
        projection, "SELECT count(DISTINCT finished_at), max(finished_at) - min(finished_at) FROM experiment_items"
    )
    assert (instants, spread.total_seconds()) == (3, 2e-6)


async def test_an_event_told_again_changes_nothing(projection) -> None:
    first = item("a", '"1"')
    await projection.fold(*records(created(), first, item("a", '"2"'), requested(), cancelled()))
    before = await projection.dump(*EXPERIMENT_TABLES)
    otherwise = again(item("z", '"9"'), first.event_id)
    await projection.fold(*records(first, otherwise, created(), requested(name="x"), first=5))
    assert await projection.dump(*DATASET_TABLES) == {table: before[table] for table in DATASET_TABLES}
    assert await rows(projection, "SELECT name, state FROM experiment_runs") == [("run r", EXPERIMENT_STATE_CANCELLED)]


async def test_projects_have_nothing_in_common(projection) -> None:
    events = [created(), item("a", '"1"'), requested(), result("a")]
    mine = [record(each, n) for n, each in enumerate(events)]
    theirs = [record(each, n, project="q") for n, each in enumerate([*events, item("a", '"2"'), cancelled()], 4)]
    await projection.fold(*mine, *theirs, *records(item("b"), first=10, project="nobody"))
    assert await rows(projection, NOW, "p") == [(2, 1, False)]
    assert await rows(projection, NOW, "q") == [(3, 1, False)]
    states = await rows(projection, "SELECT project_id, state FROM experiment_runs ORDER BY 1")
    assert states == [("p", 1), ("q", EXPERIMENT_STATE_CANCELLED)]
    letters = await rows(projection, "SELECT project_id FROM dead_letters")
    assert letters == [("nobody",)]


def story(choose: random.Random, count: int, *, whose: object = "") -> list[Event]:
    """Events of a few datasets and runs; some of subjects that are not there (yet), some told again."""
    told: list[Event] = []
    values: list[float | bool | str] = [0.25, True, "c"]
    for n in range(count):
        of, its, run = (
            f"{choose.choice('bü')}{whose}",
            choose.choice(["a", "B", "é", "a b"]),
            f"{choose.choice('rs')}{whose}",
        )
        content = {"expected_output_json": choose.choice(["", "1", " 1 "]), "splits": choose.choices("xy", k=1)}
        evaluations = [said("x", choose.choice(values))] * choose.randint(0, 1)
        told.append(
            choose.choice(
                [
                    *[created(of, description=choose.choice("de"), author=str(n)) for _ in range(2)],
                    *[item(its, choose.choice(['"?"', '"!"']), of=of, **content) for _ in range(5)],
                    *[item_archived(its, of=of, author=str(n)) for _ in range(2)],
                    *([archived(of)] if choose.random() < 0.3 else []),
                    *[requested(run, name=str(n)) for _ in range(2)],
                    *[result(its, run, repetition=choose.randint(0, 1), evaluations=evaluations) for _ in range(4)],
                    *([finished(run), cancelled(run)] if choose.random() < 0.2 else []),
                    paused(run),
                    resumed(run),
                    *([choose.choice(told)] * 3 if told else []),
                ]
            )
        )
    return told


@pytest.mark.parametrize("seed", range(4))
async def test_a_replay_gives_the_same_tables_in_any_batching(projection, seed: int) -> None:
    choose = random.Random(seed)
    told = [record(each, n, after_ms=choose.randint(-3, 3) + 2 * n) for n, each in enumerate(story(choose, 200))]
    tables = (*EXPERIMENT_TABLES, "projection_positions")
    letters = 'SELECT "offset", reason FROM dead_letters ORDER BY 1'
    await projection.fold(*told)
    expected, refused = await projection.dump(*tables), await rows(projection, letters)
    assert len(expected["dataset_changes"]) > 20
    assert len(expected["experiment_items"]) > 4
    assert refused
    for _ in range(3):
        await empty_experiments(projection)
        for batch in batches(told, [choose.randint(1, 30) for _ in range(5)]):
            await projection.fold(*batch)
            if choose.random() < 0.5:
                await projection.fold(*batch)
        assert await projection.dump(*tables) == expected
        assert await rows(projection, letters) == refused


async def test_processes_write_different_subjects_at_the_same_time(database) -> None:
    """Partitions of two processes, and every partition with other datasets and runs."""
    choose = random.Random(5)
    runs = [
        records(*story(choose, 60, whose=partition), project=f"p{partition % 2}", partition=partition)
        for partition in range(8)
    ]
    async with folding_experiments(database) as one, folding_experiments(database) as other:

        async def fold(projection: Projecting, run) -> None:
            for batch in batches(run, [7, 20]):
                await projection.fold(*batch)

        await asyncio.gather(*(fold(one if n % 2 else other, run) for n, run in enumerate(runs)))
        raced = await one.dump(*EXPERIMENT_TABLES)
        await empty_experiments(one)
        for run in runs:
            await one.fold(*run)
        assert await one.dump(*EXPERIMENT_TABLES) == raced


async def test_two_processes_that_both_believe_to_own_the_partition(database) -> None:
    told = records(*story(random.Random(3), 120))

    async def own(seed: int) -> None:
        choose = random.Random(seed)
        async with folding_experiments(database) as me:
            position = 0
            while position < len(told):
                stored = await rows(me, "SELECT next_offset FROM projection_positions")
                position = min(position, stored[0][0] if stored else 0)
                size = choose.randint(1, 20)
                await me.fold(*told[position : position + size])
                position += size

    await asyncio.gather(*(own(seed) for seed in range(3)))
    async with folding_experiments(database) as after:
        raced = await after.dump(*EXPERIMENT_TABLES)
        await empty_experiments(after)
        await after.fold(*told)
        assert await after.dump(*EXPERIMENT_TABLES) == raced


async def test_what_the_gateway_would_refuse_is_set_aside(projection) -> None:
    nan, absurd = float("nan"), 2**63
    run_of_dead = again(requested("gone"), "no uuid")
    bad: dict[str, Event | bytes] = {
        "the record is not an Event": b"\xff",
        "the payload is spans_recorded": event([span(1, 1)]),
        "the payload is of an unknown kind": Event(event_id=identity(1), project_id="p"),
        "event_id: ": run_of_dead,
        "dataset_created.name: ": created(""),
        "dataset_created.dataset_id: ": created(dataset_id="0" * 32),
        "dataset_created.description: has a NUL": created(description="a\0b"),
        "dataset_created.input_schema_json: ": created(input_schema_json="{"),
        "dataset_item_recorded.item_id: ": item(""),
        "dataset_item_recorded.input_json: is": item(input_json=""),
        "dataset_item_recorded.expected_output_json: ": item(expected_output_json="[NaN]"),
        "dataset_item_recorded.metadata_json: ": item(metadata_json="[" * 2_000 + "]" * 2_000),
        "dataset_item_recorded.source_trace_id: ": item(source_trace_id=b"short"),
        "dataset_item_recorded.dataset_id: ": item(of="elsewhere"),
        "dataset_item_archived.dataset_id: ": item_archived(of="elsewhere"),
        "dataset_archived.dataset_id: ": archived("elsewhere"),
        "experiment_requested.name: ": requested(name="n" * 9_000),
        "experiment_requested.dataset_version: ": requested(dataset_version=absurd),
        "experiment_item_finished.run_id: ": result(run_id="gone"),
        "experiment_item_finished.usage.input_tokens: ": result(usage=usage(absurd)),
        "experiment_item_finished.usage.cost_picodollars: ": result(usage=usage(0, 0, absurd)),
        "experiment_item_finished.repetition: ": result(repetition=2**32 - 1),
        "experiment_item_finished.evaluations[1].name: ": result(evaluations=[said("a", 1.0), said("a", 2.0)]),
        "experiment_item_finished.evaluations[0].numeric: ": result(evaluations=[said("a", nan)]),
        "experiment_item_finished.evaluations[0].categorical: ": result(evaluations=[said("a", "\0")]),
        "experiment_finished.outcome: ": finished(outcome=77),
        "experiment_finished.run_id: ": finished("gone"),
        "experiment_cancelled.reason: has a NUL": cancelled(reason="\0"),
        "experiment_cancelled.run_id: ": cancelled("gone"),
        "experiment_paused.run_id: ": paused("gone"),
        "experiment_resumed.run_id: ": resumed("gone"),
    }
    told = records(*bad.values())
    good = [created(), item(), requested(), result()]
    await projection.fold(*(record(each, n) for n, each in enumerate(good)))
    told = [record(each, n) for n, each in enumerate(bad.values(), len(good))]
    await projection.fold(*told, record(created(), len(good) + len(bad), project="p\0"))
    letters = await rows(projection, 'SELECT reason, raw FROM dead_letters ORDER BY "offset"')
    assert len(letters) == len(bad) + 1
    for (reason, raw), why, its in zip(letters, bad, told, strict=False):
        assert reason.startswith(why)
        assert raw == its.raw
    assert await rows(projection, NOW, "p") == [(2, 1, False)]
    assert await rows(projection, "SELECT items_finished, state FROM experiment_runs") == [(1, 1)]


async def test_what_the_database_refuses_costs_only_itself(projection) -> None:
    await projection.pool.execute("ALTER TABLE dataset_items ADD CONSTRAINT no_poison CHECK (author <> 'poison')")
    events = [created(), *(item(f"i{n}", author="poison" if n == 3 else "") for n in range(8)), item(of="nowhere")]
    await projection.fold(*records(*events))
    assert await rows(projection, NOW, "p") == [(8, 7, False)]
    letters = await rows(projection, 'SELECT "offset", reason FROM dead_letters ORDER BY 1')
    assert [offset for offset, _ in letters] == [4, 9]
    assert "no_poison" in letters[0][1]
