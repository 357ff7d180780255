"""Judges that are built in: objects of `lodestream.evaluators`, or the specs of such."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from lodestream._experiments.errors import ExperimentRefusedError
from lodestream._experiments.evaluators import Judge, Known

if TYPE_CHECKING:
    from lodestream._client import Lodestream
    from lodestream._results import ItemResult
    from lodestream.evaluators import Case, Evaluator, EvaluatorSpecError, Judged, Tools

_PACKAGE = "lodestream.evaluators"


def built_in_judge(one: Any, *, place: str, client: "Lodestream", tools: "Tools | None") -> Judge | None:
    """None when it is none.

    Raises ExperimentRefusedError for a spec that makes no sense.
    """
    if not isinstance(one, Mapping) and not type(one).__module__.startswith(_PACKAGE):
        return None
    from lodestream.evaluators import Evaluator, EvaluatorSpecError, evaluator_of

    if isinstance(one, Mapping):
        try:
            one = evaluator_of(one)
        except EvaluatorSpecError as error:
            raise _refusal(place, error) from None
    if not isinstance(one, Evaluator):
        raise ExperimentRefusedError(f"{place}: {one!r:.100} judges no items")
    return _judge(one, tools_of(client, tools))


def built_in_run_judge(one: Any, *, place: str) -> Judge | None:
    """The same for judges of runs."""
    if not isinstance(one, Mapping) and not type(one).__module__.startswith(_PACKAGE):
        return None
    from lodestream.evaluators import EvaluatorSpecError, RunEvaluator, run_evaluator_of

    if isinstance(one, Mapping):
        try:
            one = run_evaluator_of(one)
        except EvaluatorSpecError as error:
            raise _refusal(place, error) from None
    if not isinstance(one, RunEvaluator):
        raise ExperimentRefusedError(f"{place}: {one!r:.100} judges no runs")
    evaluator = one

    async def ask(known: Known) -> Any:
        return await evaluator.evaluate([_judged(result) for result in known["item_results"]])

    return Judge(name=one.name, revision=one.revision, spec=one.spec, ask=ask, watched=False)


def tools_of(client: "Lodestream", given: "Tools | None") -> "Tools":
    """Those given; prompts are the client's unless something else is said."""
    from lodestream.evaluators import Tools

    async def prompt(name: str, version: int | None, label: str | None) -> Any:
        find = partial(client.get_prompt, name, version=version, label=label if version is None else None)
        return await asyncio.to_thread(find)

    tools = given or Tools()
    return tools if tools.prompt is not Tools().prompt else replace(tools, prompt=prompt)


def _judged(result: "ItemResult") -> "Judged":
    from lodestream.evaluators import Judged

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


def _judge(evaluator: "Evaluator", tools: "Tools") -> Judge:
    async def ask(known: Known) -> Any:
        return await evaluator.evaluate(_case(known), tools)

    return Judge(
        name=evaluator.name,
        revision=evaluator.revision,
        spec=evaluator.spec,
        ask=ask,
        judges_failures=evaluator.judges_failures,
        watched=False,
    )


def _case(known: Known) -> "Case":
    from lodestream.evaluators import Case

    metadata = known["metadata"]
    return Case(
        input=known["input"],
        output=known["output"],
        expected_output=known["expected_output"],
        metadata=metadata if isinstance(metadata, Mapping) else {} if metadata is None else {"metadata": metadata},
        error=known["error"],
        latency_seconds=known["latency_seconds"],
        input_tokens=known["input_tokens"],
        output_tokens=known["output_tokens"],
        cost_usd=known["cost_usd"],
    )
