"""Settings that several kinds of evaluators have: a field, an expected value, bounds, normalised texts."""

import importlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lodestream_evals.evaluators._errors import EvaluatorError, EvaluatorSpecError, SettingError
from lodestream_evals.evaluators._evaluator import Case, ValueType, Verdict
from lodestream_evals.evaluators._json import NotJsonError, parse
from lodestream_evals.evaluators._spec import Spec, checked_text


def imported(module: str) -> Any:
    """The module. Raises ImportError that names what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} is missing: pip install 'lodestream[experiments]'") from error


# --- The part of a case that is evaluated -----------------------------------------------------------------------------

ROOTS = ("output", "expected_output", "input", "metadata")
_MAX_PATH = 500
_SEGMENT = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^."\s\\]+)(?:\.|$)')


@dataclass(frozen=True, slots=True)
class FieldValue:
    """What is at a path."""

    value: Any = None
    missing: str = ""
    """Why there is nothing, in words; empty when there is something."""


@dataclass(frozen=True, slots=True)
class Path:
    """Where to look in a case."""

    root: str
    steps: Sequence[str] = ()

    def __str__(self) -> str:
        """As it is written."""
        return ".".join((self.root, *map(_written, self.steps)))

    def of(self, case: Case) -> FieldValue:
        """What is there. A text is read as JSON where the path goes into it; numbers are places in a list, from 0."""
        value = getattr(case, self.root)
        if value is None:
            return FieldValue(missing=f"there is no {self.root}")
        if self.steps and isinstance(value, str):
            try:
                value = parse(value)
            except NotJsonError as error:
                return FieldValue(missing=f"the {self.root} is no JSON: {error}")
        for depth, step in enumerate(self.steps):
            if isinstance(value, dict) and step in value:
                value = value[step]
            elif isinstance(value, list) and step.isdecimal() and len(step) < 9 and int(step) < len(value):
                value = value[int(step)]
            else:
                inside = str(Path(self.root, self.steps[:depth]))
                return FieldValue(missing=f"{inside} has no {_written(step)}")
        return FieldValue(value)


def path_setting(spec: Spec, key: str = "field", default: str = "output") -> Path:
    """The setting `field`."""
    return read_path(spec.read(key, default, _checked_path))


def read_path(text: str) -> Path:
    """Raises SettingError when it is no path."""
    steps, at = [], 0
    while at < len(text):
        found = _SEGMENT.match(text, at)
        if found is None:
            raise SettingError(f"is no path from character {at} on: {text!r}")
        step = found[0].removesuffix(".")
        steps.append(_unquoted(step) if step.startswith('"') else step)
        at = found.end()
    if text.endswith(".") or not steps or steps[0] not in ROOTS:
        raise SettingError(f"is a path like output.answer.days, from {', '.join(ROOTS)}; not {text!r}")
    return Path(steps[0], tuple(steps[1:]))


def _checked_path(value: Any) -> str:
    text = checked_text(value, _MAX_PATH)
    return str(read_path(text))


def _unquoted(step: str) -> str:
    try:
        return checked_text(json.loads(step, strict=False))
    except json.JSONDecodeError as error:
        raise SettingError(f"has {step}, which is no JSON text: {error.msg}") from None


def _written(step: str) -> str:
    return step if _SEGMENT.fullmatch(step) and not step.endswith(".") else json.dumps(step, ensure_ascii=False)


# --- The expected value -----------------------------------------------------------------------------------------------

Expected = Callable[[Case], Any]
"""Raises EvaluatorError for a case that has none."""


def expected_setting(spec: Spec, fixed: Callable[[Any], Any] = lambda value: value) -> Expected:
    """The settings `value` (checked by `fixed`), and `expected_field` for cases' own."""
    value = spec.read("value", None, fixed)
    path = path_setting(spec, "expected_field", "expected_output")

    def expected(case: Case) -> Any:
        if value is not None:
            return value
        field = path.of(case)
        if field.missing:
            raise EvaluatorError(f"nothing to compare with: {field.missing}, and the evaluator has no value")
        return field.value

    return expected


# --- Bounds of numbers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a number has to keep to."""

    least: float | None = None
    most: float | None = None

    @property
    def value_type(self) -> ValueType:
        """With bounds, whether they are kept to; without any, the number."""
        return "NUMERIC" if self.least is None and self.most is None else "BOOLEAN"

    def verdict(self, number: float, summary: str, metadata: Mapping[str, Any] | None = None) -> Verdict:
        """Return the verdict on a number, of which `summary` is the sentence."""
        if self.value_type == "NUMERIC":
            return Verdict(number, summary, metadata or {})
        kept = {"number": number, **(metadata or {})}
        if self.least is not None and number < self.least:
            return Verdict(False, f"{summary}, below the least, {self.least:g}", kept)
        if self.most is not None and number > self.most:
            return Verdict(False, f"{summary}, above the most, {self.most:g}", kept)
        return Verdict(True, f"{summary}, within {self}", kept)

    def __str__(self) -> str:
        """For a reason."""
        if self.least is None:
            return f"{self.most:g}"
        return f"{self.least:g} or more" if self.most is None else f"{self.least:g} to {self.most:g}"


def bounds_setting(spec: Spec, *, least: float = 0, most: float = float("inf")) -> Bounds:
    """The settings `min` and `max`, themselves within bounds."""
    bounds = Bounds(spec.number("min", None, least=least, most=most), spec.number("max", None, least=least, most=most))
    if bounds.least is not None and bounds.most is not None and bounds.least > bounds.most:
        raise EvaluatorSpecError("min", f"{bounds.least:g} is above max, {bounds.most:g}")
    return bounds


# --- Texts ------------------------------------------------------------------------------------------------------------

SHOWN: Final = 120
"""Characters of a value in a reason."""


def text_of(value: Any) -> str:
    """A text as it is, nothing as an empty one, everything else as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def shown(value: Any, most: int = SHOWN) -> str:
    """For a reason: texts in quotes, all cut to some length."""
    if isinstance(value, str):
        return f"'{value}'" if len(value) <= most else f"'{value[:most]}…' ({len(value):,} characters)"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def normalising(spec: Spec) -> Callable[[str], str]:
    """The settings `ignore_case` and `ignore_space` (runs of white space count as one, those at the ends as none)."""
    ignore_case, ignore_space = spec.flag("ignore_case"), spec.flag("ignore_space")

    def normalised(text: str) -> str:
        if ignore_case:
            text = text.casefold()
        return " ".join(text.split()) if ignore_space else text

    return normalised
