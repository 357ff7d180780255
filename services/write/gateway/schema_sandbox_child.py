"""`python -m services.write.gateway.schema_sandbox_child SECONDS`: JSON by JSON Schemas, and specs of evaluators.

A request is a line of JSON, and so is its response. Some schemas and patterns take for ever, and no limit on what they
hold finds them; so this is a process of its own, that ends when a line takes more SECONDS of a processor. References
are never fetched, and regular expressions take linear time.
"""

import json
import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jsonschema_rs
import orjson
from lodestream_evals.evaluators import EvaluatorSpecError, evaluator_of, run_evaluator_of

_MAX_MEMORY_BYTES = 2 * 1024**3
_MAX_REASON_CHARACTERS = 400
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}", re.ASCII)


def validate(schema_json: str, texts: Sequence[str]) -> dict[str, Any]:
    """Validate JSON texts by a JSON Schema.

    Returns {"schema": what is wrong with it}, or {"texts": for each [the path in it, what is wrong there] or null}.
    """
    try:
        validator = _validator(schema_json)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        return {"schema": _short(getattr(error, "message", None) or str(error))}
    return {"texts": [_fault(validator, json.loads(text)) for text in texts]}


def name_evaluators(evaluators: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Compile evaluators from their specs.

    Returns {"names": their names by field}, or {"fault": [the field, the index, the setting, what is wrong]}.
    """
    names: dict[str, list[str]] = {}
    for field, specs in evaluators.items():
        make: Callable[[Mapping[str, Any]], Any] = evaluator_of if field == "evaluators_json" else run_evaluator_of
        for n, spec in enumerate(specs):
            try:
                names.setdefault(field, []).append(make(spec).name)
            except EvaluatorSpecError as error:
                return {"fault": [field, n, error.field, _short(error.message)]}
    return {"names": names}


@lru_cache(maxsize=64)
def _validator(schema_json: str) -> Any:
    return jsonschema_rs.validator_for(
        json.loads(schema_json), pattern_options=jsonschema_rs.RegexOptions(), offline=True
    )


def _fault(validator: Any, value: Any) -> tuple[str, str] | None:
    if validator.is_valid(value):
        return None
    error = next(iter(validator.iter_errors(value)))
    path = list(error.instance_path)
    match error.kind:
        case jsonschema_rs.ValidationErrorKind.Required(property=name):
            return _json_path([*path, name]), "is missing: the schema requires it"
        case jsonschema_rs.ValidationErrorKind.AdditionalProperties(unexpected=[name, *_]):
            return _json_path([*path, name]), "is not known to the schema"
    return _json_path(path), _short(error.message)


def _json_path(path: Sequence[str | int]) -> str:
    """Return the path as text, for example ".question" or ".turns[2].role"."""
    return _short("".join(f".{part}" if _PLAIN.fullmatch(str(part)) else f"[{json.dumps(part)}]" for part in path))


def _short(text: str) -> str:
    return text if len(text) <= _MAX_REASON_CHARACTERS else text[: _MAX_REASON_CHARACTERS - 1] + "…"


def main() -> None:
    """Respond until standard input ends."""
    seconds = float(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    os.nice(5)  # others wait for spans
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, whatever it is at
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        request = json.loads(line)  # exact, whatever the size of a number
        response = name_evaluators(**request) if "evaluators" in request else validate(**request)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(orjson.dumps(response) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
