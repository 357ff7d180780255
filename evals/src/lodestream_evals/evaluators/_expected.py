"""What an output is held against: a value of the spec, or the case's expected output or a part of it."""

from collections.abc import Callable
from typing import Any

from lodestream_evals.evaluators._case import Case
from lodestream_evals.evaluators._errors import EvaluatorError
from lodestream_evals.evaluators._fields import path_setting
from lodestream_evals.evaluators._spec import Spec

Expected = Callable[[Case], Any]
"""Raises EvaluatorError for a case that has none."""


def expected_setting(spec: Spec, fixed: Callable[[Any], Any] = lambda value: value) -> Expected:
    """The settings `value` (checked by `fixed`), and `expected_field` for cases' own."""
    value = spec.read("value", None, fixed)
    path = path_setting(spec, "expected_field", "expected_output")

    def expected(case: Case) -> Any:
        if value is not None:
            return value
        found = path.of(case)
        if found.missing:
            raise EvaluatorError(f"nothing to compare with: {found.missing}, and the evaluator has no value")
        return found.value

    return expected
