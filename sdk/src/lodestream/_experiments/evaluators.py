"""What judges items and runs: functions of users and built-in evaluators, called alike."""

import hashlib
import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lodestream._arguments import list_of
from lodestream._diagnostics import tell
from lodestream._evaluation import MAX_NAME, Evaluation
from lodestream._experiments.binding import Bound, bind
from lodestream._experiments.calling import call
from lodestream._experiments.errors import ExperimentRefusedError, RegressionError
from lodestream._experiments.judgement import Judgement

OF_ITEMS = (
    "input", "output", "expected_output", "expected", "reference", "metadata", "item", "example", "item_id", "trace_id",
    "latency", "latency_seconds", "repetition",
)  # fmt: skip
"""What evaluators can ask for."""
OF_ALL = (*OF_ITEMS, "evaluations")
OF_RUNS = ("item_results", "results", "items", "run_id", "run_name", "name")
Known = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Something that judges. `ask` gives whatever it returns."""

    name: str
    revision: str
    spec: Mapping[str, Any]
    """What is remembered of it with the run."""
    ask: Callable[[Known], Awaitable[Any]] = field(repr=False)
    judges_failures: bool = False
    watched: bool = True
    """Whether its work is worth an observation."""


def judges_of(
    given: Sequence[Any],
    known: Collection[str],
    *,
    what: str,
    alone: str,
    timeout: float | None,
    built_in: Callable[..., Judge | None],
) -> list[Judge]:
    """A judge for each; functions of the same name are told apart by numbers.

    Raises ExperimentRefusedError naming the one that can't judge.
    """
    try:
        several = list_of(given, what)
    except TypeError as error:
        raise ExperimentRefusedError(str(error)) from None
    judges: list[Judge] = []
    names: set[str] = set()
    for number, one in enumerate(several):
        place = f"{what}[{number}]"
        judge = built_in(one, place=place) or _function(
            one, known, place=place, alone=alone, timeout=timeout, taken=names
        )
        if judge.name in names:
            raise ExperimentRefusedError(f"{place}.name: {judge.name!r} is the name of another one too")
        names.add(judge.name)
        judges.append(judge)
    return judges


def function_judge(
    function: Any, known: Collection[str], *, place: str, alone: str, timeout: float | None, name: str = ""
) -> Judge:
    """A judge that is a function of the user's.

    Raises ExperimentRefusedError.
    """
    try:
        bound = bind(function, known, alone=alone, what=place)
    except TypeError as error:
        raise ExperimentRefusedError(str(error)) from None
    name, revision = name or name_of(function), revision_of(function)
    spec = {"kind": "function", "name": name}
    return Judge(name=name, revision=revision, spec=spec, ask=_asking(bound, timeout))


async def said_by(judge: Judge, known: Known, regressions: list[RegressionError] | None = None) -> list[Judgement]:
    """What it says; when it fails, that. Nothing returned is nothing said. Regressions also go to the list."""
    try:
        returned = await judge.ask(known)
        evaluations = [] if returned is None else Evaluation.of(judge.name, returned)
    except Exception as error:
        if isinstance(error, RegressionError) and regressions is not None:
            regressions.append(error)
        why = f"{type(error).__name__}: {error}"[:_MAX_ERROR]
        return [Judgement(name=judge.name, error=why, revision=judge.revision)]
    return [Judgement(name=each.name, evaluation=each, revision=judge.revision) for each in evaluations]


def each_name_once(judgements: Sequence[Judgement]) -> list[Judgement]:
    """Of those that have the same name the first, which says that there were more when it can."""
    first: dict[str, Judgement] = {}
    for judgement in judgements:
        if (known := first.setdefault(judgement.name, judgement)) is not judgement:
            error = f"name: {judgement.name!r} was said by more than one evaluator; none of them counts"
            first[judgement.name] = Judgement(name=judgement.name, error=error, revision=known.revision)
    if len(first) > _MAX_JUDGEMENTS:
        tell("evaluations", f"there are {len(first)} evaluations; the first {_MAX_JUDGEMENTS} are kept")
    return list(first.values())[:_MAX_JUDGEMENTS]


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
    told = function if hasattr(function, "__qualname__") else type(function)
    try:
        source = inspect.getsource(inspect.unwrap(told))
    except (OSError, TypeError):
        code = getattr(told, "__code__", None)
        source = repr((code.co_code, code.co_consts)) if code is not None else ""
    name = f"{getattr(told, '__module__', '')}.{getattr(told, '__qualname__', '')}"
    return hashlib.sha256(f"{name}\n{source}\n{beside}".encode("utf-8", "replace")).hexdigest()[:12]


_MAX_ERROR = 2_000
_MAX_JUDGEMENTS = 300  # of an item


def _function(
    one: Any, known: Collection[str], *, place: str, alone: str, timeout: float | None, taken: Collection[str]
) -> Judge:
    name = name_of(one)
    number = 1
    while name in taken:
        number += 1
        name = f"{name_of(one)}-{number}"
    return function_judge(one, known, place=place, alone=alone, timeout=timeout, name=name)


def _asking(bound: Bound, timeout: float | None) -> Callable[[Known], Awaitable[Any]]:
    async def ask(known: Known) -> Any:
        return await call(bound, known, timeout=timeout)

    return ask
