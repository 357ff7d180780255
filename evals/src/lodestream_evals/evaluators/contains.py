"""Whether the output has texts in it: all of them, any, or none."""

from typing import Any

from lodestream_evals.evaluators._errors import EvaluatorError
from lodestream_evals.evaluators._evaluator import Case, Judging, Kind, Tools, Verdict
from lodestream_evals.evaluators._settings import expected_setting, normalising, path_setting, shown, text_of
from lodestream_evals.evaluators._spec import Spec, checked_text

_MOST = 50
_KEPT = 60  # characters of each text in the metadata


def read(spec: Spec) -> Judging:
    """Settings: `value` (a text or several), `mode`, `field`, `expected_field`, `ignore_case`, `ignore_space`."""
    path, normalised = path_setting(spec), normalising(spec)
    expected_of = expected_setting(spec, _checked_value)
    mode = spec.one_of("mode", ("all", "any", "none"), "all")

    def judge(case: Case, _: Tools) -> Verdict:
        wanted = _wanted(expected_of(case))
        field = path.of(case)
        if field.missing:
            return Verdict(False, field.missing)
        text = normalised(text_of(field.value))
        there = [each for each in wanted if normalised(each) in text]
        absent = [each for each in wanted if each not in there]
        value = {"all": not absent, "any": bool(there), "none": not there}[mode]
        metadata = {}
        if len(wanted) > 1:
            metadata = {"found": _kept(there), "missing": _kept(absent)}
        return Verdict(value, _reason(there, absent, field.value, mode=mode, value=value), metadata)

    return Judging(judge, "BOOLEAN")


def _checked_value(value: Any) -> Any:
    if isinstance(value, list) and 0 < len(value) <= _MOST:
        return [checked_text(each) for each in value]
    return checked_text(value)


def _wanted(expected: Any) -> list[str]:
    """Numbers and the like are looked for as they are written in JSON."""
    wanted = [text_of(each) for each in (expected if isinstance(expected, list) else [expected])]
    if not wanted or not all(wanted):
        raise EvaluatorError(f"nothing to look for: the expected output is {shown(expected)}")
    return wanted


def _reason(there: list[str], absent: list[str], output: Any, *, mode: str, value: bool) -> str:
    if mode == "none":
        return f"has {_listed(there)}, which it must not" if there else f"has no {_listed(absent)}"
    if value:
        return f"has {_listed(there)}"
    return f"{_listed(absent)} {'is' if len(absent) == 1 else 'are'} not in {shown(output)}"


def _kept(texts: list[str]) -> list[str]:
    return [shown(text, _KEPT) for text in texts]


def _listed(texts: list[str]) -> str:
    listed = ", ".join(shown(text, 60) for text in texts[:5])
    return f"{listed} and {len(texts) - 5} more" if len(texts) > 5 else listed


KIND = Kind("contains", 1, read)
