"""CompareExperiments says what is so of the runs in the read model, and what is wrong with comparing them."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import grpc
import pytest
from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.experiment_event_pb2 import ItemEvaluation

from services.read.query.experiments.compare import Comparisons
from shared.auth.keys import create_project
from shared.runtime.fairness import FairLimiter
from shared.runtime.refusal import RefusedError
from shared.runtime.settings import QuerySettings
from tests.conftest import StartService
from tests.support.comparing import Comparing, comparing, item_id, metric

BETTER, WORSE, NOT_SHOWN, CANNOT_SAY = (
    pb.METRIC_VERDICT_BETTER,
    pb.METRIC_VERDICT_WORSE,
    pb.METRIC_VERDICT_NOT_SHOWN,
    pb.METRIC_VERDICT_CANNOT_SAY,
)


@pytest.fixture
async def project(database: str) -> AsyncIterator[Comparing]:
    async with comparing(database, f"p-{uuid4().hex[:8]}") as opened:
        yield opened


def passed(*, unless: int, revision: str = "1", name: str = "accuracy"):
    """True but for every so-manyth item."""
    return lambda n, _: [ItemEvaluation(name=name, boolean=n % unless != 0, evaluator_version=revision)]


async def refused(project: Comparing, *arguments: str, **options) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(RefusedError) as caught:
        await project.compare(*arguments, **options)
    return caught.value.code, caught.value.reason


async def test_a_run_that_is_better_is_said_to_be_by_how_much_and_on_which_items(project) -> None:
    await project.dataset(100, metadata=lambda n: f'{{"language": "{"de" if n % 2 else "en"}", "n": {n}}}')
    await project.run("old", range(100), passed(unless=4), cost_picodollars=10**9)
    await project.run("new", range(100), passed(unless=20), latency_us=lambda _: 2_000_000, cost_picodollars=10**9)
    answer = await project.compare("old", "new", seed=1)

    accuracy = metric(answer, "accuracy")
    assert (accuracy.verdict, accuracy.pairs, accuracy.improved, accuracy.regressed) == (BETTER, 100, 20, 0)
    assert (accuracy.baseline_mean, accuracy.run_mean, accuracy.test) == (0.75, 0.95, "McNemar, exact")
    assert 0 < accuracy.interval_low < 0.2 < accuracy.interval_high
    assert accuracy.summary.startswith("accuracy 75.0 % → 95.0 % (+20.0, 95 % interval ")
    latency, cost, errors = (metric(answer, name) for name in ("latency", "cost", "errors"))
    assert (latency.verdict, latency.difference, latency.regressed) == (WORSE, 1.0, 100)
    assert (cost.verdict, cost.baseline_mean, cost.unchanged) == (NOT_SHOWN, 0.001, 100)
    assert (errors.verdict, errors.unchanged) == (NOT_SHOWN, 100)
    changed = [each for each in answer.items if each.metric == "accuracy"]
    assert {each.item_id for each in changed} == {item_id(n) for n in range(0, 100, 4) if n % 20}
    assert {each.change for each in changed} == {pb.ITEM_CHANGE_IMPROVED}
    assert (changed[0].baseline_value, changed[0].run_value, changed[0].input_preview) == (0, 1, '"why 4?"')
    assert changed[0].run_trace_id == "05" * 16
    segments = {(each.key, each.value): each for each in answer.segments if each.metric == "accuracy"}
    assert set(segments) == {("language", "de"), ("language", "en")}  # n has more than 20 values
    english = segments["language", "en"]
    assert (english.pairs, english.baseline_mean, english.run_mean) == (50, 0.5, 0.9)
    assert answer.baseline.request.name == "old"
    assert [run.items_finished for run in answer.runs] == [100]
    assert not answer.warnings
    assert await project.compare("old", "new", seed=1) == answer


async def test_a_run_does_not_look_better_by_failing_on_what_is_hard(project) -> None:
    await project.dataset(40)
    await project.run("old", range(40), passed(unless=4))
    await project.run("new", range(40), passed(unless=4), failed=range(0, 40, 4))
    answer = await project.compare("old", "new", metrics=["accuracy"])
    accuracy, errors = metric(answer, "accuracy"), metric(answer, "errors")
    assert (accuracy.pairs, accuracy.missing, accuracy.verdict) == (30, 10, NOT_SHOWN)
    assert (errors.run_mean, errors.regressed, errors.verdict) == (0.25, 10, WORSE)
    missing = next(each for each in answer.items if each.metric == "accuracy")
    assert (missing.change, missing.run_error, missing.baseline_value) == (pb.ITEM_CHANGE_MISSING, "it broke", 0)
    assert not missing.HasField("run_value")
    assert any("the task failed on 10 items of 'new'" in warning for warning in answer.warnings)


async def test_repetitions_are_means_of_their_items_and_show_the_noise(project) -> None:
    await project.dataset(20)

    def noisy(n: int, repetition: int) -> list[ItemEvaluation]:
        return [ItemEvaluation(name="accuracy", boolean=(n + repetition) % 2 == 0)]

    await project.run("old", range(20), noisy, repetitions=2)
    await project.run("new", range(20), passed(unless=100), repetitions=4)
    answer = await project.compare("old", "new")
    accuracy = metric(answer, "accuracy")
    assert (accuracy.pairs, accuracy.baseline_mean, accuracy.noise_floor) == (20, 0.5, 1.0)
    assert accuracy.test == "paired permutation, exact"
    assert any("2 repetitions" in warning for warning in answer.warnings)


async def test_categories_differ_without_an_order_and_texts_are_left_out(project) -> None:
    await project.dataset(60)

    def toned(*, since: int):
        return lambda n, _: [
            ItemEvaluation(name="tone", categorical="kind" if n >= since else "cross"),
            ItemEvaluation(name="note", text=f"note {n}"),
        ]

    await project.run("old", range(60), toned(since=50))
    await project.run("new", range(60), toned(since=10))
    answer = await project.compare("old", "new")
    tone = metric(answer, "tone")
    assert (tone.verdict, tone.unchanged, tone.improved, tone.regressed) == (CANNOT_SAY, 20, 0, 0)
    assert tone.p_adjusted < 0.05
    assert not tone.HasField("difference")
    (first, *_) = [each for each in answer.items if each.metric == "tone"]
    assert (first.change, first.baseline_category, first.run_category) == (0, "cross", "kind")
    assert "note" not in {each.metric for each in answer.metrics}


async def test_whatever_makes_a_comparison_doubtful_is_said(project) -> None:
    await project.dataset(20, version=2)
    await project.change_item(3, version=2)
    await project.run("old", range(15), passed(unless=4), splits=["test"])
    await project.run(
        "new",
        range(5, 20),
        lambda n, _: [
            *passed(unless=4, revision="2")(n, 0),
            ItemEvaluation(name="judge", error="no answer"),
            ItemEvaluation(name="latency", boolean=True),
        ],
        dataset_version=2,
        state=pb.EXPERIMENT_STATE_RUNNING,
    )
    await project.run("numbers", range(3), lambda _n, _: [ItemEvaluation(name="accuracy", numeric=0.5)])
    answer = await project.compare("old", "new", "numbers")
    warnings = "\n".join(answer.warnings)
    for expected in (
        "'new' is not done: 15 of 20 results are there",
        "the evaluator 'judge' failed on 15 items of 'new'",
        "the evaluation 'latency' is compared as 'latency evaluation'",
        "'old' and 'new' are over versions 1 and 2 of the dataset; the items in both are the same",
        "'old' and 'new' are of different splits",
        "5 items of 'old' not in 'new'",
        "5 items of 'new' not in 'old'",
        "the evaluator 'accuracy' is not of the same revision in 'old' and 'new'",
        "accuracy: nothing can be said, because its values are true or false in the baseline and numbers in the run",
        "latency: only 3 items in both runs",
    ):
        assert expected in warnings
    assert metric(answer, "accuracy", "numbers").verdict == CANNOT_SAY
    assert metric(answer, "latency evaluation", "new").verdict == CANNOT_SAY


async def test_runs_over_other_data_are_paired_by_what_their_items_are_called(project) -> None:
    await project.run("old", range(8), passed(unless=2), dataset_id="", dataset_version=0)
    await project.run("new", range(8), passed(unless=2), dataset_id="", dataset_version=0)
    accuracy = metric(await project.compare("old", "new"), "accuracy")
    assert (accuracy.pairs, accuracy.verdict, accuracy.p_value) == (8, NOT_SHOWN, 1)


async def test_a_comparison_that_cannot_be_names_what_is_wrong(project) -> None:
    await project.dataset(6)
    await project.run("old", range(6), passed(unless=2))
    await project.run("new", range(6), passed(unless=3))
    invalid, missing = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
    assert (await refused(project, "", "new"))[1].startswith("baseline_run_id: ")
    for code, details, arguments, options in (
        (invalid, "run_ids: ", ("old",), {}),
        (invalid, "run_ids: 11 runs", ("old", *map(str, range(11))), {}),
        (invalid, "run_ids[1]: ", ("old", "new", "new"), {}),
        (invalid, "run_ids[0]: it is the baseline", ("old", "old"), {}),
        (invalid, "confidence: ", ("old", "new"), {"confidence": 1.0}),
        (invalid, "confidence: ", ("old", "new"), {"confidence": float("nan")}),
        (
            invalid,
            "metrics[0]: no run has 'acuracy'; there are accuracy, cost,",
            ("old", "new"),
            {"metrics": ["acuracy"]},
        ),
        (invalid, "lower_is_better[0]: ", ("old", "new"), {"lower_is_better": ["toxicity"]}),
        (missing, "this project has no experiment run 'gone'", ("old", "new", "gone"), {}),
        (missing, "this project has no experiment run 'gone'", ("gone", "new"), {}),
    ):
        found = await refused(project, *arguments, **options)
        assert (found[0], found[1].startswith(details)) == (code, True), found


async def test_ten_thousand_items_and_ten_metrics_are_answered_by_the_service_in_one_message(
    project, database, service: StartService
) -> None:
    """Within a client's 4 MiB; the first comparison is the one for which SciPy is loaded."""
    await project.dataset(10_000)

    def judged(shift: int):
        return lambda n, _: [
            *(ItemEvaluation(name=f"b{k}", boolean=(n * 7919 + k * shift) % 10 < 8) for k in range(3)),
            *(ItemEvaluation(name=f"n{k}", numeric=(n * 104_729 + k * shift) % 997 / 997) for k in range(4)),
        ]

    await project.run("old", range(10_000), judged(1), latency_us=lambda n: 1 + n * 31 % 65_537, cost_picodollars=7)
    await project.run("new", range(10_000), judged(3), latency_us=lambda n: 1 + n * 37 % 65_537, cost_picodollars=9)
    query = await service("services.read.query", LODESTREAM_POSTGRES=database)
    answer = await project.ask(query.address, "old", "new")
    assert [each.pairs for each in answer.metrics] == [10_000] * 10
    assert all(each.HasField("p_value") for each in answer.metrics)
    assert answer.ByteSize() < 4 * 1024 * 1024
    assert any("changed items are not listed" in warning for warning in answer.warnings)


async def test_a_project_that_compares_much_keeps_no_other_waiting(project, database) -> None:
    other = replace(project, project_id=f"{project.project_id}-other")
    await create_project(project.connection, other.project_id, "other")
    for each in (project, other):
        await each.dataset(20)
        for run in ("old", "new"):
            await each.run(run, range(20), passed(unless=4))
    turns = FairLimiter("comparisons", 2, per_tenant=1, wait_seconds=300)
    comparisons = Comparisons(database, QuerySettings(), turns)
    request = pb.CompareExperimentsRequest(baseline_run_id="old", run_ids=["new"])
    async with turns.hold(project.project_id):
        second = asyncio.create_task(comparisons.compare_experiments(project.project_id, request))
        assert (await comparisons.compare_experiments(other.project_id, request)).metrics
        assert not second.done(), "a project has one at a time"
    assert (await second).metrics
    comparisons.close()


async def test_a_service_that_has_compared_nothing_has_not_loaded_scipy() -> None:
    """Its import takes seconds, and memory."""
    look = "import sys, services.read.query.__main__; print({'scipy', 'statsmodels', 'pandas'} & set(sys.modules))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", look, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    assert printed.decode().strip() == "set()"
