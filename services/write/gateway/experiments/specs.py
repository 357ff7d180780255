"""Which evaluators a run may have: those that the server knows, and in a program's run also its own functions. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from lodestream.evaluators import EvaluatorSpecError, evaluator_of, run_evaluator_of
from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested

from shared.read_model.experiment_rules import MAX_EVALUATION_NAME, check_specs
from shared.read_model.text_rules import check_line
from shared.runtime.refusal import InvalidError

_FUNCTION = "function"
_MAKERS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "evaluators_json": evaluator_of,
    "run_evaluators_json": run_evaluator_of,
}


def check_evaluators(requested: ExperimentRequested, path: str, *, of_a_program: bool) -> None:
    """Raises InvalidError naming the setting of the evaluator that can't be."""
    for field, make in _MAKERS.items():
        seen: set[str] = set()
        for n, spec in enumerate(check_specs(getattr(requested, field), f"{path}.{field}")):
            where = f"{path}.{field}[{n}]"
            if of_a_program and spec.get("kind") == _FUNCTION:
                name = _function_name(spec, where)
            else:
                name = _name(spec, make, where)
            if name in seen:
                raise InvalidError(f"{where}.name", f"{name!r} is the name of another one, too")
            seen.add(name)


def _name(spec: Mapping[str, Any], make: Callable[[Mapping[str, Any]], Any], path: str) -> str:
    try:
        return str(make(spec).name)
    except EvaluatorSpecError as error:
        raise InvalidError(f"{path}.{error.field}" if error.field else path, error.message) from None


def _function_name(spec: Mapping[str, Any], path: str) -> str:
    name = spec.get("name")
    if not isinstance(name, str):
        raise InvalidError(f"{path}.name", "is missing" if name is None else "is no text")
    check_line(name, f"{path}.name", most=MAX_EVALUATION_NAME)
    return name
