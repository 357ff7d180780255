"""The part of a case that is judged: `output.answer.days` is the days of the answer of an output that is JSON."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lodestream_evals.evaluators._case import Case
from lodestream_evals.evaluators._errors import SettingError
from lodestream_evals.evaluators._json import NotJsonError, parse
from lodestream_evals.evaluators._spec import Spec, checked_text

ROOTS = ("output", "expected_output", "input", "metadata")
_MAX_PATH = 500
_SEGMENT = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^."\s\\]+)(?:\.|$)')


@dataclass(frozen=True, slots=True)
class Found:
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

    def of(self, case: Case) -> Found:
        """What is there. A text is read as JSON where the path goes into it; numbers are places in a list, from 0."""
        value = getattr(case, self.root)
        if value is None:
            return Found(missing=f"there is no {self.root}")
        if self.steps and isinstance(value, str):
            try:
                value = parse(value)
            except NotJsonError as error:
                return Found(missing=f"the {self.root} is no JSON: {error}")
        for depth, step in enumerate(self.steps):
            if isinstance(value, dict) and step in value:
                value = value[step]
            elif isinstance(value, list) and step.isdecimal() and len(step) < 9 and int(step) < len(value):
                value = value[int(step)]
            else:
                inside = str(Path(self.root, self.steps[:depth]))
                return Found(missing=f"{inside} has no {_written(step)}")
        return Found(value)


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
