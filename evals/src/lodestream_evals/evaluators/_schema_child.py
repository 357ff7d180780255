"""Judges JSON by JSON Schemas, a line in, a line out. Run as a file, so it imports nothing of ours.

Its first line says that it is there. It ends when an answer takes more than SECONDS of the processor.
"""

import json
import signal
import sys
import time
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final

SECONDS: Final = 2.0
_MAX_BYTES = 1024 * 1024  # of a compiled pattern
_MAX_MEMORY = 1024**3
_KEPT, _MAX_MESSAGE, _MAX_PLACE = 10, 300, 200


class WrongSchemaError(ValueError):
    """It is no JSON Schema, or not one that is taken; the message says where and why."""


def validator_of(schema: Any, *, formats: bool) -> Any:
    """Patterns match in linear time, references never leave the schema. Raises WrongSchemaError."""
    import jsonschema_rs

    bounded = jsonschema_rs.RegexOptions(size_limit=_MAX_BYTES, dfa_size_limit=_MAX_BYTES)
    try:
        return jsonschema_rs.validator_for(schema, validate_formats=formats, offline=True, pattern_options=bounded)
    except jsonschema_rs.ValidationError as error:
        message = f"is no JSON Schema, at {_place(error.instance_path)}: {error.message[:_MAX_MESSAGE]}"
        raise WrongSchemaError(message) from None
    except (jsonschema_rs.ReferencingError, ValueError) as error:
        raise WrongSchemaError(f"is no JSON Schema that can be used: {str(error)[:_MAX_MESSAGE]}") from None


def problems_of(validator: Any, value: Any) -> list[dict[str, str]]:
    """What of the value does not satisfy what of the schema: the first ten."""
    return [
        {
            "path": _place(error.instance_path),
            "message": str(error.message)[:_MAX_MESSAGE],
            "schema_path": "/".join(map(str, error.schema_path))[:_MAX_PLACE],
        }
        for error in islice(validator.iter_errors(value), _KEPT)
    ]


def _place(steps: Sequence[str | int]) -> str:
    return ".".join(map(str, steps))[:_MAX_PLACE] or "the root"


@lru_cache(maxsize=64)
def _kept(schema: str, *, formats: bool) -> Any:
    return validator_of(json.loads(schema), formats=formats)


def main() -> None:
    """Answer until standard input ends."""
    try:
        import resource
    except ImportError:  # Windows
        pass
    else:
        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))
    _write({})
    for line in sys.stdin.buffer:
        _end_after(SECONDS)
        begin = time.process_time()
        schema, formats, value = json.loads(line)
        problems = problems_of(_kept(schema, formats=formats), json.loads(value))
        _end_after(0)
        _write({"problems": problems, "cpu_seconds": time.process_time() - begin})


def _end_after(seconds: float) -> None:
    """By SIGPROF, which ends the process whatever it is at; 0: not at all. Without signals the parent ends it."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _write(answer: Any) -> None:
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
