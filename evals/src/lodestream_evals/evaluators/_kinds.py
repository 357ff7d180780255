"""All kinds there are, and how a spec becomes an evaluator."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from lodestream_evals.evaluators import (
    contains,
    cost,
    exact_match,
    json_schema,
    json_valid,
    latency,
    length,
    llm_judge,
    mean,
    numeric_tolerance,
    pass_rate,
    percentiles,
    regex,
    string_similarity,
    token_f1,
    worst_items,
)
from lodestream_evals.evaluators._errors import EvaluatorSpecError
from lodestream_evals.evaluators._evaluator import Evaluator, Kind, RunEvaluator, RunKind, revision_of
from lodestream_evals.evaluators._spec import Spec, checked_line

_MODULES = (
    exact_match, contains, regex, json_valid, json_schema, numeric_tolerance, string_similarity, token_f1, length,
    latency, cost, llm_judge,
)  # fmt: skip
_RUN_MODULES = (mean, pass_rate, percentiles, worst_items)
KINDS: Final[Mapping[str, Kind]] = {module.KIND.name: module.KIND for module in _MODULES}
RUN_KINDS: Final[Mapping[str, RunKind]] = {module.KIND.name: module.KIND for module in _RUN_MODULES}


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_N = TypeVar("_N", bound=_Named)


def evaluator_of(spec: Mapping[str, Any]) -> Evaluator:
    """The evaluator of a spec: {"kind": …, "name": …, and the kind's settings}. Pure, and asks nobody.

    Raises EvaluatorSpecError naming the setting that is unknown, missing or makes no sense.
    """
    read = Spec(spec)
    kind = KINDS[read.one_of("kind", tuple(KINDS))]
    name = read.read("name", kind.name, checked_line)
    read.settings.clear()
    judging = kind.read(read)
    read.done()
    return Evaluator(
        kind=kind.name,
        name=name,
        settings=read.settings,
        revision=revision_of(kind.name, kind.version, read.settings),
        value_type=judging.value_type,
        categories=judging.categories,
        judges_failures=kind.judges_failures,
        _judge=judging.judge,
    )


def run_evaluator_of(spec: Mapping[str, Any]) -> RunEvaluator:
    """The evaluator of runs of a spec. As evaluator_of."""
    read = Spec(spec)
    kind = RUN_KINDS[read.one_of("kind", tuple(RUN_KINDS))]
    name = read.read("name", kind.name, checked_line)
    read.settings.clear()
    judging = kind.read(read)
    read.done()
    return RunEvaluator(
        kind=kind.name,
        name=name,
        settings=read.settings,
        revision=revision_of(kind.name, kind.version, read.settings),
        value_type=judging.value_type,
        _judge=judging.judge,
    )


def evaluators_of(specs: Sequence[Mapping[str, Any]]) -> list[Evaluator]:
    """Those of a list of specs, each with a name of its own.

    Raises EvaluatorSpecError as evaluator_of does; its field begins with the place in the list: "1.pattern".
    """
    return _each_of(specs, evaluator_of)


def run_evaluators_of(specs: Sequence[Mapping[str, Any]]) -> list[RunEvaluator]:
    """As evaluators_of, for evaluators of runs."""
    return _each_of(specs, run_evaluator_of)


def _each_of(specs: Sequence[Mapping[str, Any]], make: Callable[[Mapping[str, Any]], _N]) -> list[_N]:
    """What `make` makes of each, their names being different. Raises EvaluatorSpecError, its field with the place."""
    if isinstance(specs, str) or not isinstance(specs, Sequence):
        raise EvaluatorSpecError("", f"the specs of evaluators are a list, not {type(specs).__name__}")
    made: dict[str, _N] = {}
    for place, spec in enumerate(specs):
        try:
            evaluator = make(spec)
        except EvaluatorSpecError as error:
            raise EvaluatorSpecError(f"{place}.{error.field}".removesuffix("."), error.message) from None
        if evaluator.name in made:
            raise EvaluatorSpecError(f"{place}.name", f"another evaluator is called {evaluator.name!r}, too")
        made[evaluator.name] = evaluator
    return list(made.values())
