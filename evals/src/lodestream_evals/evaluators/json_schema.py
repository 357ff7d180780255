"""Whether the output satisfies a JSON Schema, and which part of it does not satisfy which part of the schema.

Patterns match in linear time, and no reference leaves the schema: nothing is fetched, from the net or from files. It is
judged in a process of its own, for some schemas never end.
"""

from collections.abc import Iterator
from typing import Any

from lodestream_evals.evaluators._errors import SettingError
from lodestream_evals.evaluators._evaluator import Case, Judging, Kind, Tools, Verdict
from lodestream_evals.evaluators._json import NotJsonError, canonical, parse
from lodestream_evals.evaluators._schema_child import WrongSchemaError, validator_of
from lodestream_evals.evaluators._settings import imported, path_setting
from lodestream_evals.evaluators._spec import REQUIRED, Spec, kind_of

_MAX_SCHEMA, _MAX_PATTERNS = 200_000, 100
_LISTED = 3  # problems in the reason


def read(spec: Spec) -> Judging:
    """Settings: `schema`, `formats` (whether `format` is checked, which JSON Schema leaves open), `field`.

    An output that is a text is read as JSON. A text at a `field` is judged as it is, and else as JSON, if it is that.
    """
    path, formats = path_setting(spec), spec.flag("formats")
    schema = spec.read("schema", REQUIRED, _checked_schema)
    spec.built("schema", lambda: _check(schema, formats=formats))
    schema_text = canonical(schema)

    async def judge(case: Case, tools: Tools) -> Verdict:
        async def problems_of(value: Any) -> list[dict[str, str]]:
            return await tools.schema_problems(schema_text, canonical(value), formats=formats)

        field = path.of(case)
        if field.missing:
            return Verdict(False, field.missing)
        value, inside = field.value, bool(path.steps)
        problems = await problems_of(value) if inside or not isinstance(value, str) else []
        if isinstance(value, str) and (problems or not inside):
            try:
                problems = await problems_of(parse(value))
            except NotJsonError as error:
                if not inside:
                    return Verdict(False, f"no JSON: {error}")
        if not problems:
            return Verdict(True, "satisfies the schema")
        listed = [
            f"at {each['path']}: {each['message']} (schema: {each['schema_path']})" for each in problems[:_LISTED]
        ]
        more = [f"{len(problems) - _LISTED} more"] if len(problems) > _LISTED else []
        return Verdict(False, "; ".join(listed + more), {"problems": problems})

    return Judging(judge, "BOOLEAN")


def _checked_schema(value: Any) -> Any:
    if not isinstance(value, dict | bool):
        raise SettingError(f"is a JSON Schema, an object or true or false, not {kind_of(value)}")
    if (size := len(canonical(value))) > _MAX_SCHEMA:
        raise SettingError(f"has {size:,} characters, at most {_MAX_SCHEMA:,} are taken")
    if (count := sum(1 for _ in _patterns(value))) > _MAX_PATTERNS:
        raise SettingError(f"has {count} patterns, at most {_MAX_PATTERNS} are taken")
    return value


def _patterns(schema: Any) -> Iterator[str]:
    """Everything that may be one: each is compiled."""
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        if isinstance(schema.get("patternProperties"), dict):
            yield from schema["patternProperties"]
    for inside in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _patterns(inside)


def _check(schema: Any, *, formats: bool) -> None:
    imported("jsonschema_rs")
    try:
        validator_of(schema, formats=formats)
    except WrongSchemaError as error:
        raise SettingError(str(error)) from None


KIND = Kind("json_schema", 1, read)
