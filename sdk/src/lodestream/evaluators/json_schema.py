"""Whether the output satisfies a JSON Schema, and which part of it does not satisfy which part of the schema.

Patterns match in linear time, and no reference leaves the schema: nothing is fetched, from the net or from files.
"""

from itertools import islice
from typing import Any

from lodestream.evaluators._case import Case, Tools
from lodestream.evaluators._errors import SettingError
from lodestream.evaluators._evaluator import Judging, Kind, Verdict
from lodestream.evaluators._extra import imported
from lodestream.evaluators._fields import path_setting
from lodestream.evaluators._json import NotJsonError, canonical, parse
from lodestream.evaluators._spec import REQUIRED, Spec, kind_of

_MAX_SCHEMA = 200_000
_MAX_BYTES = 8 * 1024 * 1024  # of a compiled pattern
_TOLD, _KEPT = 3, 20  # problems in the reason, in the metadata
_MAX_MESSAGE = 300


def read(spec: Spec) -> Judging:
    """Settings: `schema`, `formats` (whether `format` is checked, which JSON Schema leaves open), `field`."""
    path, formats = path_setting(spec), spec.flag("formats")
    schema = spec.read("schema", REQUIRED, _checked_schema)
    validator = spec.built("schema", lambda: _validator(schema, formats=formats))

    def judge(case: Case, _: Tools) -> Verdict:
        found = path.of(case)
        if found.missing:
            return Verdict(False, found.missing)
        value = found.value
        if isinstance(value, str):
            try:
                value = parse(value)
            except NotJsonError as error:
                return Verdict(False, f"no JSON: {error}")
        problems = [_problem(error) for error in islice(validator.iter_errors(value), _KEPT)]
        if not problems:
            return Verdict(True, "satisfies the schema")
        told = [f"at {each['path']}: {each['message']} (schema: {each['schema_path']})" for each in problems[:_TOLD]]
        more = [f"{len(problems) - _TOLD} more"] if len(problems) > _TOLD else []
        return Verdict(False, "; ".join(told + more), {"problems": problems})

    return Judging(judge, "BOOLEAN")


def _checked_schema(value: Any) -> Any:
    if not isinstance(value, dict | bool):
        raise SettingError(f"is a JSON Schema, an object or true or false, not {kind_of(value)}")
    if (size := len(canonical(value))) > _MAX_SCHEMA:
        raise SettingError(f"has {size:,} characters, at most {_MAX_SCHEMA:,} are taken")
    return value


def _validator(schema: Any, *, formats: bool) -> Any:
    jsonschema = imported("jsonschema_rs")
    bounded = jsonschema.RegexOptions(size_limit=_MAX_BYTES, dfa_size_limit=_MAX_BYTES)
    try:
        return jsonschema.validator_for(schema, validate_formats=formats, offline=True, pattern_options=bounded)
    except jsonschema.ValidationError as error:
        place = _place(error.instance_path)
        raise SettingError(f"is no JSON Schema, at {place}: {error.message[:_MAX_MESSAGE]}") from None


def _problem(error: Any) -> dict[str, str]:
    return {
        "path": _place(error.instance_path),
        "message": str(error.message)[:_MAX_MESSAGE],
        "schema_path": "/".join(map(str, error.schema_path))[:_MAX_MESSAGE],
    }


def _place(steps: list[str | int]) -> str:
    return ".".join(map(str, steps))[:_MAX_MESSAGE] or "the root"


KIND = Kind("json_schema", 1, read)
