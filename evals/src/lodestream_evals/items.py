"""The life of an experiment's item, whoever schedules it: the task is called and timed, then its output is evaluated.

Workers and programs differ in what a task is and in when its items are run, not in these steps.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from time import perf_counter_ns, time_ns
from typing import Any, Generic, Protocol, TypeVar

from lodestream_proto.v1.experiment_event_pb2 import ItemEvaluation

from lodestream_evals.evaluation import Evaluation, ScoreType

T = TypeVar("T")
O = TypeVar("O")  # noqa: E741 - an outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOutcome(Generic[T]):
    """What one call of a task came to."""

    output: T | None
    """None when it failed."""
    error: str
    """Why it failed; empty when it did not."""
    started_ns: int
    """When it was called, as a Unix time in nanoseconds."""
    duration_ns: int

    @property
    def ended_ns(self) -> int:
        """When it ended, as a Unix time in nanoseconds; never before it started, whatever a clock was set to."""
        return self.started_ns + self.duration_ns


async def run_task(
    call: Callable[[Callable[[], None]], Awaitable[T]], explain: Callable[[Exception], str]
) -> TaskOutcome[T]:
    """Call a task once, and time it.

    Args:
        call: Calls the task. Its argument starts the clock again, for calls that first wait for their turn.
        explain: Returns why the task failed, or raises the error when the item does not end with it.
    """
    started_ns, clock = time_ns(), perf_counter_ns()

    def restart() -> None:
        nonlocal started_ns, clock
        started_ns, clock = time_ns(), perf_counter_ns()

    output, error = None, ""
    try:
        output = await call(restart)
    except Exception as failure:
        error = explain(failure)
    return TaskOutcome(output=output, error=error, started_ns=started_ns, duration_ns=perf_counter_ns() - clock)


class ItemEvaluator(Protocol):
    """Evaluates items."""

    @property
    def judges_failures(self) -> bool:
        """Whether it can evaluate an item whose task failed."""
        ...


V = TypeVar("V", bound=ItemEvaluator)


async def run_evaluators(
    evaluators: Sequence[V],
    evaluate: Callable[[V], Awaitable[O]],
    *,
    task_failed: bool,
    max_concurrent: int | None = None,
) -> list[O]:
    """Return the outcome of each evaluator that can evaluate the item, in order.

    Args:
        evaluators: The evaluators of the run.
        evaluate: Has one of them evaluate the item.
        task_failed: Whether the item's task failed.
        max_concurrent: How many evaluate the item at a time. Default: all.

    Raises:
        BaseException: What `evaluate` raised first, in the order of the evaluators, once all of them have ended.
    """
    turn: AbstractAsyncContextManager[Any] = (
        nullcontext() if max_concurrent is None else asyncio.Semaphore(max_concurrent)
    )

    async def in_turn(evaluator: V) -> O:
        async with turn:
            await asyncio.sleep(0)  # most never wait: heartbeats and other items have their turn in between
            return await evaluate(evaluator)

    applicable = [each for each in evaluators if each.judges_failures or not task_failed]
    outcomes = await asyncio.gather(*map(in_turn, applicable), return_exceptions=True)
    finished: list[O] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        finished.append(outcome)
    return finished


# --- Values in the contract's messages --------------------------------------------------------------------------------

_FIELDS: dict[ScoreType, str] = {
    "BOOLEAN": "boolean",
    "NUMERIC": "numeric",
    "CATEGORICAL": "categorical",
    "TEXT": "text",
}
_TYPES: dict[str, ScoreType] = {field: data_type for data_type, field in _FIELDS.items()}


def value_field(evaluation: Evaluation) -> dict[str, Any]:
    """Return the value of an evaluation under the name that the contract's messages have for its type."""
    value = evaluation.value
    match evaluation.data_type:
        case "BOOLEAN":
            return {"boolean": bool(value)}
        case "NUMERIC":
            return {"numeric": float(value)}
        case data_type:
            return {_FIELDS[data_type or "CATEGORICAL"]: str(value)}


def value_in(message: ItemEvaluation) -> tuple[bool | float | str, ScoreType] | None:
    """Return the value in a message, and its type; None where the evaluator failed."""
    data_type = _TYPES.get(message.WhichOneof("value") or "")
    return None if data_type is None else (getattr(message, _FIELDS[data_type]), data_type)
