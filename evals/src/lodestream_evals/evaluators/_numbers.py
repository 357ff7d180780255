"""Numbers with bounds: judged where there are bounds, told where there are none."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lodestream_evals.evaluators._errors import EvaluatorSpecError
from lodestream_evals.evaluators._evaluator import ValueType, Verdict
from lodestream_evals.evaluators._spec import Spec


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a number has to keep to."""

    least: float | None = None
    most: float | None = None

    @property
    def value_type(self) -> ValueType:
        """With bounds, whether they are kept to; without any, the number."""
        return "NUMERIC" if self.least is None and self.most is None else "BOOLEAN"

    def verdict(self, number: float, told: str, metadata: Mapping[str, Any] | None = None) -> Verdict:
        """On a number; `told` is it in words."""
        if self.value_type == "NUMERIC":
            return Verdict(number, told, metadata or {})
        kept = {"number": number, **(metadata or {})}
        if self.least is not None and number < self.least:
            return Verdict(False, f"{told}, below the least, {self.least:g}", kept)
        if self.most is not None and number > self.most:
            return Verdict(False, f"{told}, above the most, {self.most:g}", kept)
        return Verdict(True, f"{told}, within {self}", kept)

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
