"""Runs as the query service answers: what was asked for, how far they are, and what came of their items."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import EXPERIMENT_OUTCOME_FAILED, ItemEvaluation

from services.all_in_one.processes import ProcessManager
from tests.support.experiment_reading import Project, Reading, database_of_its_own, reading_experiments
from tests.support.experiment_records import (
    cancelled,
    created,
    dataset_id,
    finished,
    item,
    item_archived,
    paused,
    requested,
    result,
    resumed,
    said,
    usage,
)
from tests.support.servers import Servers

Code = grpc.StatusCode


@pytest.fixture(scope="module")
async def reading(ground: ProcessManager, servers: Servers, template: str) -> AsyncIterator[Reading]:
    async with (
        database_of_its_own(servers, template) as dsn,
        reading_experiments(ground, dsn, servers.environment) as reading,
    ):
        yield reading


@pytest.fixture
async def acme(reading: Reading) -> Project:
    return await reading.project()


def asked_for(run_id: str = "r", *, repetitions: int = 1, task_json: str = '{"kind":"sdk"}', **fields: Any) -> Event:
    """A run, of one repetition unless it is said."""
    event = requested(run_id, **fields)
    event.experiment_requested.repetitions = repetitions
    event.experiment_requested.task_json = task_json
    return event


def milliseconds(number: int) -> timedelta:
    return timedelta(milliseconds=number)


async def get(project: Project, run_id: str = "r") -> pb.ExperimentRun:
    run: pb.ExperimentRun = (await project.ask("GetExperiment", run_id=run_id)).run
    return run


async def test_a_run_tells_what_was_asked_for_and_how_far_it_is(acme: Project) -> None:
    await acme.tell(created(), item("a"), item("b"), item("c"))
    asked = asked_for("r", dataset_version=3, metadata_json='{"k":1}', author="ada")
    await acme.tell(asked)
    run = await get(acme)
    assert run.request == asked.experiment_requested
    assert (run.dataset_name, run.state, run.items_total, run.items_finished) == (
        "questions",
        pb.EXPERIMENT_STATE_RUNNING,
        2,
        0,
    )
    assert (run.HasField("ended_at"), run.usage.HasField("cost_picodollars")) == (False, False)
    await acme.tell(result("a", took=milliseconds(30), usage=usage(10, 4, 500)), paused())
    run = await get(acme)
    assert (run.state, run.items_finished, run.latency_p50_us, run.latency_p95_us) == (
        pb.EXPERIMENT_STATE_PAUSED,
        1,
        30_000,
        30_000,
    )
    await acme.tell(
        resumed(),
        result("b", took=milliseconds(10), usage=usage(1, 1), error="no"),
        finished(outcome=EXPERIMENT_OUTCOME_FAILED, reason="why"),
    )
    run = await get(acme)
    assert (run.state, run.reason, run.items_finished, run.items_failed) == (pb.EXPERIMENT_STATE_FAILED, "why", 2, 1)
    assert (run.usage.input_tokens, run.usage.output_tokens, run.usage.cost_picodollars) == (11, 5, 500)
    assert (run.latency_p50_us, run.latency_p95_us) == (10_000, 30_000), "latencies that occurred"
    assert run.ended_at.ToMicroseconds() > run.requested_at.ToMicroseconds() > 0


async def test_the_total_is_of_the_dataset_at_the_runs_version(acme: Project) -> None:
    """Of its splits, by repetitions; not known while the dataset is not, for that is folded apart from the run."""
    await acme.tell(
        asked_for("early", dataset_version=2),
        asked_for("split", dataset_version=4, splits=["hard", "odd"]),
        asked_for("rep", dataset_version=5, repetitions=3),
        requested("none", dataset_id="", dataset_version=0),
    )
    assert [(await get(acme, run)).items_total for run in ("early", "split", "rep", "none")] == [0, 0, 0, 0]
    assert (await get(acme, "early")).dataset_name == ""
    await acme.tell(created(), item("a", splits=["hard"]), item("b", splits=["odd", "x"]), item("c"))
    assert [(await get(acme, run)).items_total for run in ("early", "split", "rep")] == [1, 2, 0]
    await acme.tell(item_archived("a"), item("a"), item("d"), item_archived("c"))
    assert [(await get(acme, run)).items_total for run in ("early", "split", "rep")] == [1, 2, 6]
    await acme.tell(result("x", "none"), result("y", "none"))
    assert (await get(acme, "none")).items_total == 0
    await acme.tell(finished("none"))
    assert (await get(acme, "none")).items_total == 2, "it has ended: they are all that there were"


async def test_evaluations_are_summed_up_by_name(acme: Project) -> None:
    text, error = ItemEvaluation(name="note", text="hm"), ItemEvaluation(name="exact", error="it failed")
    await acme.tell(
        requested("r"),
        result("a", evaluations=[said("sim", 0.1), said("exact", True), said("tone", "warm"), text]),
        result("b", evaluations=[said("sim", 0.2), said("exact", False), said("tone", "cold")]),
        result("c", evaluations=[said("sim", 0.3), error, said("tone", "warm")]),
        result("d", evaluations=[said("exact", True), said("huge", 1e308)]),
        result("d", repetition=1, evaluations=[said("huge", 1e308)]),
    )
    summaries = {each.name: each for each in (await get(acme)).evaluations}
    assert list(summaries) == ["exact", "huge", "note", "sim", "tone"]
    exact, note, sim, tone = (summaries[name] for name in ("exact", "note", "sim", "tone"))
    assert (exact.count, exact.errors, exact.mean, dict(exact.counts)) == (3, 1, 2 / 3, {"true": 2, "false": 1})
    assert (sim.count, sim.errors, sim.mean, dict(sim.counts)) == (3, 0, 0.2, {}), "exactly"
    assert (tone.count, tone.HasField("mean"), dict(tone.counts)) == (3, False, {"warm": 2, "cold": 1})
    assert (note.count, note.HasField("mean"), dict(note.counts)) == (1, False, {})
    assert summaries["huge"].mean == 1e308
    (listed,) = (await acme.ask("ListExperiments")).runs
    assert listed == await get(acme)
    await acme.tell(result("e", evaluations=[said("tone", "new")]), finished(evaluations=[said("pass_rate", 0.5)]))
    run = await get(acme)
    assert next(each for each in run.evaluations if each.name == "tone").counts == {"warm": 2, "cold": 1, "new": 1}
    assert list(run.run_evaluations) == [said("pass_rate", 0.5)]


async def test_a_run_of_another_project_is_not_there(acme: Project, reading: Reading) -> None:
    await acme.tell(requested("mine"))
    other = await reading.project()
    for rpc in ("GetExperiment", "ListExperimentItems"):
        assert await other.refusal(rpc, run_id="mine") == (Code.NOT_FOUND, "this project has no experiment run 'mine'")
        assert await acme.refusal(rpc) == (Code.INVALID_ARGUMENT, "run_id: is missing")
        assert (await acme.refusal(rpc, run_id="\0"))[0] is Code.INVALID_ARGUMENT
    assert not (await other.ask("ListExperiments")).runs
    await acme.tell(requested("older", name="nightly"), requested("newer", name="nightly"))
    assert await acme.refusal("GetExperiment", run_id="nightly") == (
        Code.NOT_FOUND,
        "this project has no experiment run 'nightly': that is the name of run 'newer'",
    )


async def test_runs_are_listed_newest_first_and_by_what_is_asked(acme: Project) -> None:
    await acme.tell(created("d1"), created("d2"))
    for n in range(5):
        of = dataset_id("d1") if n % 2 else dataset_id("d2")
        await acme.tell(requested(f"r{n}", name=f"Nightly_{n}", dataset_id=of))
    await acme.tell(requested("one"), requested("two"), after_ms=10_000_000)
    await acme.tell(finished("r1"), cancelled("r3", "enough"), paused("r4"))

    async def found(**fields) -> list[str]:
        return [each.request.run_id for each in (await acme.ask("ListExperiments", **fields)).runs]

    everything = ["two", "one", "r4", "r3", "r2", "r1", "r0"]
    assert await found() == everything, "two of one instant as well"
    assert await found(dataset_name="d1") == ["r3", "r1"]
    assert await found(name_contains="nightly_", dataset_name="d2") == ["r4", "r2", "r0"]
    assert await found(name_contains="y%") == []
    assert await found(states=[pb.EXPERIMENT_STATE_PAUSED, pb.EXPERIMENT_STATE_CANCELLED]) == ["r4", "r3"]
    assert await found(states=[pb.EXPERIMENT_STATE_COMPLETED]) == ["r1"]
    for size in (1, 3, 7):
        pages = await acme.pages("ListExperiments", "runs", page_size=size)
        assert [each.request.run_id for page in pages for each in page] == everything
        assert {len(page) for page in pages[:-1]} <= {size}
    assert await acme.refusal("ListExperiments", dataset_name="d3") == (
        Code.NOT_FOUND,
        "this project has no dataset 'd3': it has 'd1', 'd2'",
    )
    assert await acme.refusal("ListExperiments", states=[99]) == (Code.INVALID_ARGUMENT, "states: 99 is no state")


async def test_items_come_in_the_order_of_the_dataset_and_none_is_lost(acme: Project) -> None:
    """Whatever they finished in; what the dataset did not have at that version comes last."""
    await acme.tell(created(), item("z"), item("y"), item("x"), item_archived("y"), item("x", '"changed"'), item("w"))
    await acme.tell(
        requested("r", dataset_version=4),
        result("stranger", input_json='"mine"', expected_output_json="1", metadata_json='{"m":1}', output_json='"o"'),
        result("x", repetition=1),
        result("w"),
        result("z", error="no"),
        result("x"),
        result("y"),
        result("z", repetition=1),
    )
    everything = [("z", 0), ("z", 1), ("y", 0), ("x", 0), ("x", 1), ("stranger", 0), ("w", 0)]

    async def found(**fields) -> list[tuple[str, int]]:
        pages = await acme.pages("ListExperimentItems", "items", run_id="r", **fields)
        return [(each.result.item_id, each.result.repetition) for page in pages for each in page]

    assert await found() == everything
    for size in range(1, 9):
        assert await found(page_size=size) == everything, size
    assert await found(failed=True) == [("z", 0)]
    plain = (await acme.ask("ListExperimentItems", run_id="r")).items
    assert not any(each.HasField("item") for each in plain)
    items = (await acme.ask("ListExperimentItems", run_id="r", with_dataset_items=True)).items
    assert [each.result for each in items] == [each.result for each in plain]
    assert [(each.item.item_id, each.item.input_json, each.item.version) for each in items] == [
        ("z", '"?"', 2), ("z", '"?"', 2), ("y", '"?"', 3), ("x", '"?"', 4), ("x", '"?"', 4), ("stranger", '"mine"', 0),
        ("w", "", 0),
    ]  # fmt: skip
    stranger = items[5].item
    assert (stranger.expected_output_json, stranger.metadata_json) == ("1", '{"m":1}')
    assert items[5].result.output_json == '"o"'


async def test_items_of_data_in_no_dataset_tell_themselves(acme: Project) -> None:
    results = [result(name, input_json=f'"{name}"') for name in "cab"]
    await acme.tell(requested("r", dataset_id="", dataset_version=0), *results, result("a", repetition=1))
    pages = await acme.pages("ListExperimentItems", "items", run_id="r", with_dataset_items=True, page_size=3)
    assert [[(each.item.item_id, each.item.input_json) for each in page] for page in pages] == [
        [("a", '"a"'), ("a", ""), ("b", '"b"')],
        [("c", '"c"')],
    ]


async def test_pages_go_on_as_they_began_when_the_dataset_becomes_known_meanwhile(acme: Project) -> None:
    await acme.tell(requested("r", dataset_version=4), *(result(name) for name in "abc"))
    first = await acme.ask("ListExperimentItems", run_id="r", page_size=1)
    await acme.tell(created(), item("c"), item("b"), item("a"))
    rest = await acme.ask("ListExperimentItems", run_id="r", page_token=first.next_page_token)
    assert [each.result.item_id for each in [*first.items, *rest.items]] == ["a", "b", "c"]
    anew = await acme.ask("ListExperimentItems", run_id="r")
    assert [each.result.item_id for each in anew.items] == ["c", "b", "a"]


async def test_pages_of_large_results_and_requests_end_early(acme: Project) -> None:
    large = f'"{"x" * 700_000}"'
    await acme.tell(created(), *(item(f"{n}", large) for n in range(3)))
    await acme.tell(requested("r", dataset_version=4), *(result(f"{n}", output_json=large) for n in range(4)))
    pages = await acme.pages("ListExperimentItems", "items", run_id="r", with_dataset_items=True)
    assert [[each.result.item_id for each in page] for page in pages] == [["0"], ["1"], ["2"], ["3"]]
    for n in range(3):
        await acme.tell(asked_for(f"large-{n}", task_json='{"kind":"sdk","m":"' + "x" * 900_000 + '"}'))
    runs = await acme.pages("ListExperiments", "runs", name_contains="large")
    assert [len(page) for page in runs] == [2, 1]


async def test_pages_of_runs_with_many_categories_end_early(acme: Project) -> None:
    """Summaries grow with what evaluators say, not with the run's row."""
    said_of = [[said(f"label-{k}", f"{n}".ljust(200, "x")) for k in range(5)] for n in range(1_000)]
    for run in "abc":
        told = [result(f"{n}", run, evaluations=evaluations) for n, evaluations in enumerate(said_of)]
        await acme.tell(requested(run), *told)
    pages = await acme.pages("ListExperiments", "runs")
    assert [[each.request.run_id for each in page] for page in pages] == [["c", "b"], ["a"]]
    assert len(pages[0][0].evaluations[4].counts) == 1_000


async def test_what_changes_runs_is_not_for_the_query_service(acme: Project) -> None:
    for rpc in ("StartExperiment", "CancelExperiment"):
        assert (await acme.refusal(rpc))[0] is Code.UNIMPLEMENTED
