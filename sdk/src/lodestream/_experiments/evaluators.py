"""The evaluators of an experiment: functions of users and built-in ones, called alike."""

import asyncio
import hashlib
import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from lodestream_evals.evaluation import MAX_NAME, Evaluation

from lodestream._arguments import list_of
from lodestream._diagnostics import warn_once
from lodestream._experiments.calling import BoundFunction, bind, call
from lodestream._experiments.errors import ExperimentRefusedError, RegressionError
from lodestream._experiments.session import Session
from lodestream._results import EvaluatorOutcome

if TYPE_CHECKING:
    from lodestream_evals.evaluators import Case, Evaluator, EvaluatorSpecError, Judged, Tools

    from lodestream._results import ItemResult

OF_ITEMS = (
    "input", "output", "expected_output", "expected", "reference", "metadata", "item", "example", "item_id", "trace_id",
    "latency", "latency_seconds", "repetition",
)  # fmt: skip
"""What evaluators can ask for."""
OF_ALL = (*OF_ITEMS, "evaluations")
OF_RUNS = ("item_results", "results", "items", "run_id", "run_name", "name")
EvaluatorInputs = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedEvaluator:
    """An evaluator of a run. `evaluate` returns whatever a function of a user's returns."""

    name: str
    revision: str
    spec: Mapping[str, Any]
    """What is remembered of it with the run."""
    evaluate: Callable[[EvaluatorInputs], Awaitable[Any]] = field(repr=False)
    judges_failures: bool = False
    observed: bool = True
    """Whether its work is worth an observation."""


def planned_evaluators(
    given: Sequence[Any],
    inputs: Collection[str],
    *,
    what: str,
    alone: str,
    timeout: float | None,
    built_in: Callable[..., PlannedEvaluator | None],
) -> list[PlannedEvaluator]:
    """Plan an evaluator for each of those given; functions of the same name are told apart by numbers.

    Raises ExperimentRefusedError naming the one that is no evaluator.
    """
    try:
        several = list_of(given, what)
    except TypeError as error:
        raise ExperimentRefusedError(str(error)) from None
    evaluators: list[PlannedEvaluator] = []
    names: set[str] = set()
    for number, one in enumerate(several):
        place = f"{what}[{number}]"
        evaluator = built_in(one, place=place) or _function(
            one, inputs, place=place, alone=alone, timeout=timeout, taken=names
        )
        if evaluator.name in names:
            raise ExperimentRefusedError(f"{place}.name: {evaluator.name!r} is the name of another one too")
        names.add(evaluator.name)
        evaluators.append(evaluator)
    return evaluators


def function_evaluator(
    function: Any, inputs: Collection[str], *, place: str, alone: str, timeout: float | None, name: str = ""
) -> PlannedEvaluator:
    """Plan a function of a user's as an evaluator.

    Raises ExperimentRefusedError.
    """
    try:
        bound = bind(function, inputs, alone=alone, what=place)
    except TypeError as error:
        raise ExperimentRefusedError(str(error)) from None
    name, revision = name or name_of(function), revision_of(function)
    spec = {"kind": "function", "name": name}
    return PlannedEvaluator(name=name, revision=revision, spec=spec, evaluate=_calling(bound, timeout))


async def outcomes_of(
    evaluator: PlannedEvaluator, inputs: EvaluatorInputs, regressions: list[RegressionError] | None = None
) -> list[EvaluatorOutcome]:
    """What it says; when it fails, that. Nothing returned is nothing said. Regressions also go to the list."""
    try:
        returned = await evaluator.evaluate(inputs)
        evaluations = [] if returned is None else Evaluation.of(evaluator.name, returned)
    except Exception as error:
        if isinstance(error, RegressionError) and regressions is not None:
            regressions.append(error)
        why = f"{type(error).__name__}: {error}"[:_MAX_ERROR]
        return [EvaluatorOutcome(name=evaluator.name, error=why, revision=evaluator.revision)]
    return [EvaluatorOutcome(name=each.name, evaluation=each, revision=evaluator.revision) for each in evaluations]


def first_of_each_name(judgements: Sequence[EvaluatorOutcome]) -> list[EvaluatorOutcome]:
    """Keep one outcome of each name: where several have it, an error that says so in their place."""
    first: dict[str, EvaluatorOutcome] = {}
    for judgement in judgements:
        if (earlier := first.setdefault(judgement.name, judgement)) is not judgement:
            error = f"name: {judgement.name!r} was said by more than one evaluator; none of them counts"
            first[judgement.name] = EvaluatorOutcome(name=judgement.name, error=error, revision=earlier.revision)
    if len(first) > _MAX_OUTCOMES:
        warn_once("evaluations", f"there are {len(first)} evaluations; the first {_MAX_OUTCOMES} are kept")
    return list(first.values())[:_MAX_OUTCOMES]


def name_of(function: Any) -> str:
    """What a function, or an object that can be called, goes by."""
    while isinstance(function, partial):
        function = function.func
    own = getattr(function, "name", None)
    name = own if isinstance(own, str) and own else getattr(function, "__name__", type(function).__name__)
    return str(name)[:MAX_NAME]


def revision_of(function: Any) -> str:
    """12 hex digits that change when its code does: over its name and its source, where there is one."""
    beside = ""
    while isinstance(function, partial):
        beside += repr((function.args, function.keywords))
        function = function.func
    described = function if hasattr(function, "__qualname__") else type(function)
    try:
        source = inspect.getsource(inspect.unwrap(described))
    except (OSError, TypeError):
        code = getattr(described, "__code__", None)
        source = repr((code.co_code, code.co_consts)) if code is not None else ""
    name = f"{getattr(described, '__module__', '')}.{getattr(described, '__qualname__', '')}"
    return hashlib.sha256(f"{name}\n{source}\n{beside}".encode("utf-8", "replace")).hexdigest()[:12]


_MAX_ERROR = 2_000
_MAX_OUTCOMES = 300  # of an item


def _function(
    one: Any, inputs: Collection[str], *, place: str, alone: str, timeout: float | None, taken: Collection[str]
) -> PlannedEvaluator:
    name = name_of(one)
    number = 1
    while name in taken:
        number += 1
        name = f"{name_of(one)}-{number}"
    return function_evaluator(one, inputs, place=place, alone=alone, timeout=timeout, name=name)


def _calling(bound: BoundFunction, timeout: float | None) -> Callable[[EvaluatorInputs], Awaitable[Any]]:
    async def evaluate(inputs: EvaluatorInputs) -> Any:
        return await call(bound, inputs, timeout=timeout)

    return evaluate


# --- Built-in evaluators ----------------------------------------------------------------------------------------------
# Built-in evaluators: objects of `lodestream.evaluators`, or the specs of such.

_PACKAGE = "lodestream_evals.evaluators"


def built_in_evaluator(one: Any, *, place: str, client: Session, tools: "Tools | None") -> PlannedEvaluator | None:
    """None when it is none.

    Raises ExperimentRefusedError for a spec that makes no sense.
    """
    if not isinstance(one, Mapping) and not type(one).__module__.startswith(_PACKAGE):
        return None
    from lodestream_evals.evaluators import Evaluator, EvaluatorSpecError, evaluator_of

    if isinstance(one, Mapping):
        try:
            one = evaluator_of(one)
        except EvaluatorSpecError as error:
            raise _refusal(place, error) from None
    if not isinstance(one, Evaluator):
        raise ExperimentRefusedError(f"{place}: {one!r:.100} judges no items")
    return _planned(one, tools_of(client, tools))


def built_in_run_evaluator(one: Any, *, place: str) -> PlannedEvaluator | None:
    """Plan a built-in evaluator of runs; None when it is none."""
    if not isinstance(one, Mapping) and not type(one).__module__.startswith(_PACKAGE):
        return None
    from lodestream_evals.evaluators import EvaluatorSpecError, RunEvaluator, run_evaluator_of

    if isinstance(one, Mapping):
        try:
            one = run_evaluator_of(one)
        except EvaluatorSpecError as error:
            raise _refusal(place, error) from None
    if not isinstance(one, RunEvaluator):
        raise ExperimentRefusedError(f"{place}: {one!r:.100} judges no runs")
    evaluator = one

    async def evaluate(inputs: EvaluatorInputs) -> Any:
        return await evaluator.evaluate([_evaluated(result) for result in inputs["item_results"]])

    return PlannedEvaluator(name=one.name, revision=one.revision, spec=one.spec, evaluate=evaluate, observed=False)


def tools_of(client: Session, given: "Tools | None") -> "Tools":
    """Return the tools of built-in evaluators; prompts are the client's unless something else is given."""
    from lodestream_evals.evaluators import Tools

    async def prompt(name: str, version: int | None, label: str | None) -> Any:
        find = partial(client.get_prompt, name, version=version, label=label if version is None else None)
        return await asyncio.to_thread(find)

    tools = given or Tools()
    return tools if tools.prompt is not Tools().prompt else replace(tools, prompt=prompt)


def _evaluated(result: "ItemResult") -> "Judged":
    from lodestream_evals.evaluators import Judged

    return Judged(
        case=_case(
            {
                "input": result.input,
                "output": result.output,
                "expected_output": result.expected_output,
                "metadata": result.metadata,
                "error": result.error,
                "latency_seconds": result.latency,
                "input_tokens": result.input_tokens,
                "output_tokens": result.output_tokens,
                "cost_usd": result.cost_usd,
            }
        ),
        evaluations=result.evaluations,
        errors=result.evaluation_errors,
        item_id=result.item_id,
        repetition=result.repetition,
    )


def _refusal(place: str, error: "EvaluatorSpecError") -> ExperimentRefusedError:
    where = f"{place}.{error.field}" if error.field else place
    return ExperimentRefusedError(f"{where}: {error.message}")


def _planned(evaluator: "Evaluator", tools: "Tools") -> PlannedEvaluator:
    async def evaluate(inputs: EvaluatorInputs) -> Any:
        return await evaluator.evaluate(_case(inputs), tools)

    return PlannedEvaluator(
        name=evaluator.name,
        revision=evaluator.revision,
        spec=evaluator.spec,
        evaluate=evaluate,
        judges_failures=evaluator.judges_failures,
        observed=False,
    )


def _case(inputs: EvaluatorInputs) -> "Case":
    from lodestream_evals.evaluators import Case

    metadata = inputs["metadata"]
    return Case(
        input=inputs["input"],
        output=inputs["output"],
        expected_output=inputs["expected_output"],
        metadata=metadata if isinstance(metadata, Mapping) else {} if metadata is None else {"metadata": metadata},
        error=inputs["error"],
        latency_seconds=inputs["latency_seconds"],
        input_tokens=inputs["input_tokens"],
        output_tokens=inputs["output_tokens"],
        cost_usd=inputs["cost_usd"],
    )
