"""How an experiment is to be run."""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lodestream_evals.strict_json import NotJsonError, strict_object

from lodestream._experiments.calling import BoundFunction, bind
from lodestream._experiments.errors import ExperimentRefusedError
from lodestream._experiments.evaluators import (
    OF_ALL,
    OF_ITEMS,
    OF_RUNS,
    PlannedEvaluator,
    built_in_evaluator,
    built_in_run_evaluator,
    function_evaluator,
    name_of,
    planned_evaluators,
)
from lodestream._experiments.session import Session
from lodestream._results import ExperimentOptions

OF_TASKS = ("item", "input", "expected_output", "metadata", "item_id", "repetition", "run_name")
"""What tasks can ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An experiment that makes sense."""

    name: str
    run_name: str
    named: bool
    """Whether the run's name was given, so that there may be such a run."""
    description: str
    metadata_json: str
    task: BoundFunction
    task_name: str
    evaluators: Sequence[PlannedEvaluator]
    composite: PlannedEvaluator | None
    run_evaluators: Sequence[PlannedEvaluator]
    max_concurrency: int
    repetitions: int
    item_timeout: float | None
    progress: bool | None


def plan_of(client: Session, name: str, task: Callable[..., Any], options: ExperimentOptions) -> Plan:
    """The plan.

    Raises ExperimentRefusedError naming what makes no sense, before anything is run.
    """
    if unknown := options.keys() - ExperimentOptions.__annotations__.keys():
        raise TypeError(f"an experiment has no {', '.join(sorted(unknown))}")
    if not isinstance(name, str) or not name:
        raise ExperimentRefusedError("name: an experiment has a name")
    timeout, composite = options.get("item_timeout"), options.get("composite_evaluator")
    if timeout is not None and not timeout > 0:
        raise ExperimentRefusedError(f"item_timeout: {timeout} is no number of seconds above 0")
    now = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    try:
        bound = bind(task, OF_TASKS, alone="item", what="task")
        metadata = strict_object(options.get("metadata"), "metadata")
    except (TypeError, NotJsonError) as error:
        raise ExperimentRefusedError(str(error)) from None
    return Plan(
        name=name,
        run_name=options.get("run_name") or f"{name} - {now}",
        named=bool(options.get("run_name")),
        description=options.get("description") or "",
        metadata_json=metadata,
        task=bound,
        task_name=name_of(task),
        evaluators=planned_evaluators(
            options.get("evaluators") or (),
            OF_ITEMS,
            what="evaluators",
            alone="output",
            timeout=timeout,
            built_in=partial(built_in_evaluator, client=client, tools=options.get("tools")),
        ),
        composite=None
        if composite is None
        else function_evaluator(composite, OF_ALL, place="composite_evaluator", alone="evaluations", timeout=timeout),
        run_evaluators=planned_evaluators(
            options.get("run_evaluators") or (),
            OF_RUNS,
            what="run_evaluators",
            alone="item_results",
            timeout=None,
            built_in=built_in_run_evaluator,
        ),
        max_concurrency=_whole(options.get("max_concurrency", 50), "max_concurrency", 1_000),
        repetitions=_whole(options.get("repetitions", 1), "repetitions", 100),
        item_timeout=timeout,
        progress=options.get("progress"),
    )


def _whole(number: Any, field: str, most: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number <= most:
        raise ExperimentRefusedError(f"{field}: {number!r:.100} is no whole number from 1 to {most}")
    return number
