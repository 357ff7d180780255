"""The form a judge's verdict has: what is asked for, as JSON Schema, and what is taken for one. Nothing else is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lodestream_evals.evaluators._evaluator import ValueType
from lodestream_evals.evaluators._json import NotJsonError, parse
from lodestream_evals.evaluators._spec import kind_of
from lodestream_evals.evaluators._texts import shown

_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*)\n```", re.DOTALL)
REASONING = "reasoning"


class WrongAnswerError(ValueError):
    """A judge's answer is not of its form; the message says why, for the judge to read."""


@dataclass(frozen=True, slots=True)
class Vote:
    """What a judge answered."""

    value: bool | float | str
    reasoning: str


@dataclass(frozen=True, slots=True)
class Form:
    """Of a verdict: a truth, a number of a scale, or one of some choices."""

    value_type: ValueType
    least: float = 0
    most: float = 0
    choices: Mapping[str, float | None] | None = None
    """With the number that each stands for, if it does."""

    @property
    def key(self) -> str:
        """What the value is called in the answer."""
        return {"BOOLEAN": "verdict", "NUMERIC": "score", "CATEGORICAL": "choice"}[self.value_type]

    @property
    def schema(self) -> dict[str, Any]:
        """Of an answer: the reasons first, so that the value follows from them."""
        value: dict[str, Any] = {"type": "boolean"}
        if self.value_type == "NUMERIC":
            value = {"type": "number", "minimum": self.least, "maximum": self.most}
        if self.choices is not None:
            value = {"type": "string", "enum": list(self.choices)}
        return {
            "type": "object",
            "properties": {REASONING: {"type": "string"}, self.key: value},
            "required": [REASONING, self.key],
            "additionalProperties": False,
        }

    def vote(self, answer: str) -> Vote:
        """The answer read: all of it is the object, in a code fence or not. Raises WrongAnswerError."""
        text = answer.strip()
        fenced = _FENCED.fullmatch(text)
        try:
            told = parse(fenced[1] if fenced else text)
        except NotJsonError as error:
            raise WrongAnswerError(f"it is not one JSON object: {error}") from None
        if not isinstance(told, dict):
            raise WrongAnswerError(f"it is {kind_of(told)}, not an object")
        wanted = {REASONING, self.key}
        if missing := wanted - told.keys():
            raise WrongAnswerError(f"it has no {' and no '.join(sorted(missing))}")
        if more := told.keys() - wanted:
            raise WrongAnswerError(f"it has {', '.join(map(shown, sorted(more)))}, which nobody asked for")
        reasoning = told[REASONING]
        if not isinstance(reasoning, str) or not reasoning.strip():
            raise WrongAnswerError(f"{REASONING} is a text that is not empty, not {shown(reasoning)}")
        return Vote(self._value(told[self.key]), reasoning.strip())

    def _value(self, value: Any) -> bool | float | str:
        if self.choices is not None:
            if not isinstance(value, str) or value not in self.choices:
                raise WrongAnswerError(f"{self.key} is one of {', '.join(self.choices)}, not {shown(value)}")
            return value
        if self.value_type == "BOOLEAN":
            if not isinstance(value, bool):
                raise WrongAnswerError(f"{self.key} is true or false, not {shown(value)}")
            return value
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.least <= value <= self.most:
            raise WrongAnswerError(f"{self.key} is a number from {self.least:g} to {self.most:g}, not {shown(value)}")
        return value
