"""Whether the output is what is expected: texts by their characters, other values as JSON, where 1 is 1.0.

A text that is held against a value that is none is read as JSON first, for models answer in texts; one at a `field` is
what it is.
"""

from collections.abc import Callable
from typing import Any

from lodestream_evals.evaluators._evaluator import Case, Judging, Kind, Tools, Verdict
from lodestream_evals.evaluators._json import NotJsonError, parse
from lodestream_evals.evaluators._settings import expected_setting, normalising, path_setting, shown
from lodestream_evals.evaluators._spec import Spec

_MAX_PLACE = 200


def read(spec: Spec) -> Judging:
    """Settings: `field`, `value`, `expected_field`, `ignore_case`, `ignore_space`."""
    path, expected_of, normalised = path_setting(spec), expected_setting(spec), normalising(spec)

    def judge(case: Case, _: Tools) -> Verdict:
        expected, field = expected_of(case), path.of(case)
        if field.missing:
            return Verdict(False, f"expected {shown(expected)}, but {field.missing}")
        got = field.value
        if isinstance(got, str) and not isinstance(expected, str) and not path.steps:
            try:
                got = parse(got)
            except NotJsonError as error:
                return Verdict(False, f"expected {shown(expected)}, got {shown(got)}, which is no JSON: {error}")
        difference = _difference(expected, got, normalised)
        return Verdict(True, f"is {shown(got)}") if difference is None else Verdict(False, difference)

    return Judging(judge, "BOOLEAN")


def _difference(expected: Any, got: Any, normalised: Callable[[str], str], where: str = "") -> str | None:
    """The first one, in words; None when there is none."""
    at = f"at {where[:_MAX_PLACE]}: " if where else ""
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in expected:
            if key not in got:
                return f"{at}{shown(key)} is missing, expected {shown(expected[key])}"
        for key in got:
            if key not in expected:
                return f"{at}{shown(key)} is not expected, it is {shown(got[key])}"
        pairs = [(str(key), expected[key], got[key]) for key in expected]
    elif isinstance(expected, list) and isinstance(got, list):
        if len(expected) != len(got):
            return f"{at}expected {len(expected)} entries, got {len(got)}: {shown(got)}"
        pairs = [(str(place), *both) for place, both in enumerate(zip(expected, got, strict=True))]
    else:
        return None if _same(expected, got, normalised) else f"{at}expected {shown(expected)}, got {shown(got)}"
    differences = (_difference(one, other, normalised, f"{where}.{key}" if where else key) for key, one, other in pairs)
    return next((difference for difference in differences if difference is not None), None)


def _same(expected: Any, got: Any, normalised: Callable[[str], str]) -> bool:
    """JSON's equality: true is not 1."""
    if isinstance(expected, str) and isinstance(got, str):
        return normalised(expected) == normalised(got)
    if isinstance(expected, bool) or isinstance(got, bool):
        return expected is got
    return bool(expected == got)


KIND = Kind("exact_match", 1, read)
