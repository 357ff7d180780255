"""Whether the output is a number close enough to the expected one."""

import re
from typing import Any

from lodestream_evals.evaluators._errors import EvaluatorError
from lodestream_evals.evaluators._evaluator import Case, Judging, Kind, Tools, Verdict
from lodestream_evals.evaluators._settings import expected_setting, path_setting, shown
from lodestream_evals.evaluators._spec import Spec, checked_number

# Commas only between groups of three digits, as English writes them; what else has commas or two points is no number.
_NUMBER = re.compile(
    r"(?<![\w.])(?<!\d,)[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?(?!\w|[.,]\d)", re.ASCII
)
_MAX_TEXT = 100_000
_MAX_DIGITS = 300


def read(spec: Spec) -> Judging:
    """Settings: `absolute` and `relative` (to the expected number) tolerance, the larger counts; none: the same number.

    `extract` (first, last) finds a number in a text; without it the whole text has to be one. `value`, `field`,
    `expected_field`.
    """
    path, expected_of = path_setting(spec), expected_setting(spec, checked_number)
    absolute, relative = spec.number("absolute", 0, least=0), spec.number("relative", 0, least=0)
    extract = spec.one_of("extract", ("none", "first", "last"), "none")

    def judge(case: Case, _: Tools) -> Verdict:
        expected = _number(expected_of(case), "none")
        if expected is None:
            raise EvaluatorError(f"the expected output is no number: {shown(expected_of(case))}")
        field = path.of(case)
        if field.missing:
            return Verdict(False, f"expected {expected:g}, but {field.missing}")
        got = _number(field.value, extract)
        if got is None:
            what = "no number" if extract == "none" else "without a number"
            return Verdict(False, f"expected {expected:.15g}, got {shown(field.value)}, which is {what}")
        room = max(absolute, relative * abs(expected))
        within, off = f"{expected:.15g}" + (f" ± {room:.6g}" if room else ""), abs(got - expected)
        metadata = {"expected": expected, "got": got, "off_by": off}
        if off <= room:
            return Verdict(True, f"{got:.15g} is {within}", metadata)
        return Verdict(False, f"expected {within}, got {got:.15g} (off by {off:.6g})", metadata)

    return Judging(judge, "BOOLEAN")


def _number(value: Any, extract: str) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return None
    text = value.strip()
    if extract == "none":
        found = [text] if _NUMBER.fullmatch(text) else []
    else:
        text = text[:_MAX_TEXT] if extract == "first" else text[-_MAX_TEXT:]
        found = _NUMBER.findall(text)
    if not found or len(digits := found[-1 if extract == "last" else 0]) > _MAX_DIGITS:
        return None
    number = float(digits.replace(",", ""))
    return number if abs(number) != float("inf") else None


KIND = Kind("numeric_tolerance", 1, read)
