"""Which evaluators a run may have: those that the server knows, and in a program's run also its own functions."""

from collections.abc import Mapping, Sequence
from typing import Any

from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested

from services.write.gateway.judge import Judge, SpecError
from shared.rules.experiments import MAX_EVALUATION_NAME, check_specs
from shared.rules.texts import check_line
from shared.runtime.refusal import InvalidError

FIELDS = ("evaluators_json", "run_evaluators_json")
_FUNCTION = "function"
Specs = Mapping[str, Sequence[dict[str, Any]]]
"""Of evaluators, by the field of ExperimentRequested they are in."""


async def check_evaluators(
    project_id: str, requested: ExperimentRequested, path: str, judge: Judge, *, of_a_program: bool
) -> Specs:
    """The specs of a run's evaluators.

    Raises InvalidError naming the setting of the one that can't be.
    """
    specs = {field: check_specs(getattr(requested, field), f"{path}.{field}") for field in FIELDS}
    own = {
        (field, n): _function_name(spec, f"{path}.{field}[{n}]")
        for field, its in specs.items()
        for n, spec in enumerate(its)
        if of_a_program and spec.get("kind") == _FUNCTION
    }
    names = {**own, **await _names_of(project_id, specs, own.keys(), path, judge)}
    for field, its in specs.items():
        seen: set[str] = set()
        for n in range(len(its)):
            if (name := names[field, n]) in seen:
                raise InvalidError(f"{path}.{field}[{n}].name", f"{name!r} is the name of another one, too")
            seen.add(name)
    return specs


async def _names_of(project_id: str, specs: Specs, but: Any, path: str, judge: Judge) -> dict[tuple[str, int], str]:
    """The names of those that the server knows, by field and place."""
    places = {field: [n for n in range(len(its)) if (field, n) not in but] for field, its in specs.items()}
    known = {field: [specs[field][n] for n in its] for field, its in places.items() if its}
    if not known:
        return {}
    try:
        names = await judge.names(project_id, known)
    except SpecError as error:
        if error.place < 0:
            raise InvalidError(f"{path}.{error.field}", error.why) from None
        where = f"{path}.{error.field}[{places[error.field][error.place]}]"
        raise InvalidError(f"{where}.{error.setting}" if error.setting else where, error.why) from None
    return {(field, n): name for field, its in names.items() for n, name in zip(places[field], its, strict=True)}


def _function_name(spec: Mapping[str, Any], path: str) -> str:
    name = spec.get("name")
    if not isinstance(name, str):
        raise InvalidError(f"{path}.name", "is missing" if name is None else "is no text")
    check_line(name, f"{path}.name", most=MAX_EVALUATION_NAME)
    return name
