"""The life of an experiment's item, as workers and programs share it."""

import asyncio
from dataclasses import dataclass

import pytest
from lodestream._experiments.messages import evaluation_message, outcome_from
from lodestream._results import EvaluatorOutcome as SdkOutcome
from lodestream_evals import items
from lodestream_evals.evaluation import Evaluation
from lodestream_evals.items import run_evaluators, run_task, value_in
from lodestream_proto.v1.experiment_event_pb2 import ItemEvaluation

from services.write.evaluator.items import EvaluatorOutcome
from services.write.evaluator.result_events import item_evaluation

VALUES = (
    Evaluation(name="n", value=True),
    Evaluation(name="n", value=2),
    Evaluation(name="n", value="polite"),
    Evaluation(name="n", value="a longer text", data_type="TEXT"),
    Evaluation(name="n", value=1, data_type="BOOLEAN"),
)


@dataclass
class Named:
    name: str
    judges_failures: bool = False


async def test_the_clock_of_a_task_starts_when_its_turn_comes(monkeypatch) -> None:
    wall, monotonic = iter([1_000, 7_000]), iter([10, 50, 90])
    monkeypatch.setattr(items, "time_ns", lambda: next(wall))
    monkeypatch.setattr(items, "perf_counter_ns", lambda: next(monotonic))

    async def call(restart) -> str:
        restart()
        return "answer"

    task = await run_task(call, str)
    assert (task.output, task.error, task.started_ns, task.duration_ns, task.ended_ns) == (
        "answer",
        "",
        7_000,
        40,
        7_040,
    )


async def test_a_task_that_fails_has_a_reason_or_its_error_is_raised() -> None:
    async def call(_) -> None:
        raise ValueError("no answer")

    def passes_on(failure: Exception) -> str:
        raise failure

    task = await run_task(call, lambda failure: f"because: {failure}")
    assert (task.output, task.error) == (None, "because: no answer")
    with pytest.raises(ValueError, match="no answer"):
        await run_task(call, passes_on)


async def test_outcomes_are_in_the_order_of_the_evaluators_and_few_evaluate_at_a_time() -> None:
    active, most = 0, 0

    async def evaluate(evaluator: Named) -> str:
        nonlocal active, most
        active += 1
        most = max(most, active)
        for _ in range(10 - int(evaluator.name)):  # the first one ends last
            await asyncio.sleep(0)
        active -= 1
        return evaluator.name

    names = [str(number) for number in range(8)]
    assert await run_evaluators([*map(Named, names)], evaluate, task_failed=False, max_concurrent=3) == names
    assert most == 3


async def test_only_evaluators_that_can_are_asked_about_a_failed_task() -> None:
    async def evaluate(evaluator: Named) -> str:
        return evaluator.name

    evaluators = [Named("contains"), Named("latency", judges_failures=True)]
    assert await run_evaluators(evaluators, evaluate, task_failed=True) == ["latency"]
    assert await run_evaluators(evaluators, evaluate, task_failed=False) == ["contains", "latency"]


async def test_an_error_is_raised_when_all_evaluators_have_ended() -> None:
    ended = []

    async def evaluate(evaluator: Named) -> None:
        if evaluator.name == "broken":
            raise RuntimeError("broken")
        await asyncio.sleep(0)
        ended.append(evaluator.name)

    with pytest.raises(RuntimeError, match="broken"):
        await run_evaluators([Named("broken"), Named("slow")], evaluate, task_failed=False)
    assert ended == ["slow"]


@pytest.mark.parametrize("evaluation", VALUES, ids=lambda evaluation: f"{evaluation.data_type}")
def test_workers_and_programs_write_the_same_value_and_read_it_back(evaluation: Evaluation) -> None:
    by_worker = item_evaluation(EvaluatorOutcome("n", "r", evaluation, "", 1, 2), ("project", "run"))
    by_program = evaluation_message(SdkOutcome(name="n", evaluation=evaluation, revision="r"), lambda value, _: value)
    assert by_worker.WhichOneof("value") == by_program.WhichOneof("value")
    assert value_in(by_worker) == value_in(by_program) == (evaluation.value, evaluation.data_type)
    assert outcome_from(by_worker).evaluation == evaluation


def test_an_evaluator_that_failed_has_no_value() -> None:
    assert value_in(ItemEvaluation(name="n", error="broken")) is None
    assert value_in(ItemEvaluation(name="n")) is None
