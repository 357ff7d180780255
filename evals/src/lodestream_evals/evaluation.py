"""What an evaluator says of an output or a run, and how the returns of users' functions are read as that."""

import dataclasses
import decimal
import math
import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from lodestream_evals.lenient_json import encodable, storable

ScoreType = Literal["NUMERIC", "CATEGORICAL", "BOOLEAN", "TEXT"]

MAX_NAME: Final = 200
MAX_CATEGORY: Final = 200
MAX_TEXT: Final = 500
MAX_COMMENT: Final = 16_384
"""In characters, as the server takes them. A longer comment is cut, for the value counts without its end."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NAMES = ("name", "key")
_VALUES = ("score", "value")
_COMMENTS = ("comment", "explanation", "reason")
_READ = {*_NAMES, *_VALUES, *_COMMENTS, "label", "metadata", "data_type", "config_id"}
_TAKEN = (
    "True or False, a number, a text (a category), an Evaluation, a dict, a tuple (value, comment), or a list of those"
)


class InvalidEvaluationError(ValueError):
    """What was returned is no evaluation; `field` says which part of it ("name", "value", "comment", …)."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A value with a name: a boolean, a number or a category, and why.

    Raises InvalidEvaluationError naming the field that makes no sense.
    """

    name: str
    value: bool | float | str
    comment: str | None = None
    """Why, in words that a person can use."""
    metadata: Mapping[str, Any] | None = None
    data_type: ScoreType | None = None
    """Default: follows from the value; texts are categories."""
    config_id: str | None = None
    """The score config that the value has to keep to."""

    def __post_init__(self) -> None:
        _check_line("name", self.name, MAX_NAME)
        value = _plain(self.value)
        data_type = _type_of(value) if self.data_type is None else self.data_type
        object.__setattr__(self, "value", _checked(value, data_type))
        object.__setattr__(self, "data_type", data_type)
        object.__setattr__(self, "comment", _comment(self.comment))
        if self.metadata is not None and not isinstance(self.metadata, Mapping):
            raise InvalidEvaluationError("metadata", f"is a dict, not {_named(self.metadata)}")
        if self.config_id is not None:
            _check_line("config_id", self.config_id, MAX_NAME)

    @staticmethod
    def of(name: str, returned: Any) -> "list[Evaluation]":
        """Read what a function of a user's returned as evaluations.

        Takes a boolean, a number, a text (a category), an Evaluation, a tuple (value, comment), a dict or a dataclass
        with "score" or "value", "label", and "comment", "explanation" or "reason", and a list of all those. What else a
        dict holds becomes metadata.

        Args:
            name: The name of evaluations that have none of their own.
            returned: What the function returned.

        Returns:
            One evaluation, or one for each item of a list.

        Raises:
            InvalidEvaluationError: It is none of those, or a name comes twice; `field` names the part.
        """
        if not isinstance(returned, list):
            return [_one(name, returned)]
        evaluations = [_one(name, item) for item in returned]
        names = [evaluation.name for evaluation in evaluations]
        if twice := sorted({each for each in names if names.count(each) > 1}):
            raise InvalidEvaluationError("name", f"{', '.join(map(repr, twice))} is returned more than once")
        return evaluations


def _one(name: str, returned: Any) -> Evaluation:
    if isinstance(returned, Evaluation):
        return returned
    if isinstance(returned, tuple) and not hasattr(returned, "_fields"):
        if len(returned) != 2:
            raise InvalidEvaluationError("value", f"a tuple is (value, comment), this one has {len(returned)} parts")
        value, comment = returned
        return Evaluation(name=name, value=value, comment=comment)
    if (fields := _fields_of(returned)) is not None:
        return _from_fields(name, fields)
    return Evaluation(name=name, value=returned)


def _fields_of(returned: Any) -> Mapping[str, Any] | None:
    if isinstance(returned, Mapping):
        return returned
    if dataclasses.is_dataclass(returned) and not isinstance(returned, type):
        return {field.name: getattr(returned, field.name) for field in dataclasses.fields(returned)}
    if callable(dump := getattr(type(returned), "model_dump", None)):
        dumped = dump(returned)
        return dumped if isinstance(dumped, Mapping) else None
    as_dict = getattr(returned, "_asdict", None)
    return as_dict() if isinstance(returned, tuple) and callable(as_dict) else None


def _from_fields(name: str, fields: Mapping[str, Any]) -> Evaluation:
    """Read a mapping as an evaluation. Beside a number, a label is metadata."""
    metadata = fields.get("metadata")
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InvalidEvaluationError("metadata", f"is a dict, not {_named(metadata)}")
    beside = {str(key): value for key, value in fields.items() if key not in _READ}
    value, label = _only(fields, _VALUES), fields.get("label")
    if value is None:
        value = label
    elif label is not None:
        beside["label"] = label
    if value is None:
        names = ", ".join(map(str, fields)) or "nothing"
        raise InvalidEvaluationError("value", f'a dict has a "score", a "value" or a "label"; this one has {names}')
    return Evaluation(
        name=_only(fields, _NAMES) or name,
        value=value,
        comment=_only(fields, _COMMENTS),
        metadata={**beside, **(metadata or {})} or None,
        data_type=fields.get("data_type"),
        config_id=fields.get("config_id"),
    )


def _only(fields: Mapping[str, Any], names: Sequence[str]) -> Any:
    present = [name for name in names if fields.get(name) is not None]
    if len(present) > 1:
        raise InvalidEvaluationError(present[-1], f"says the same as {present[0]}; one of them is enough")
    return fields[present[0]] if present else None


def _plain(value: Any) -> Any:
    """Numbers and booleans of other libraries (numpy's, decimals, enumerations) as Python's own."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool):
        return value
    if not isinstance(value, numbers.Number) and callable(item := getattr(value, "item", None)):
        try:
            value = item()
        except (TypeError, ValueError):
            return value
    if isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real | decimal.Decimal):
        return float(value)
    return value


def _type_of(value: Any) -> ScoreType:
    if isinstance(value, bool):
        return "BOOLEAN"
    if isinstance(value, int | float):
        return "NUMERIC"
    if isinstance(value, str):
        return "CATEGORICAL"
    raise InvalidEvaluationError("value", f"is {_named(value)}; it can be {_TAKEN}")


def _checked(value: Any, data_type: ScoreType) -> bool | float | str:
    if data_type == "BOOLEAN":
        if not isinstance(value, int | float) or value not in (0, 1):
            raise InvalidEvaluationError("value", f"{value!r:.100} is neither true nor false, which BOOLEAN asks for")
        return bool(value)
    if data_type == "NUMERIC":
        if not isinstance(value, int | float):
            raise InvalidEvaluationError("value", f"{value!r:.100} is no number, which NUMERIC asks for")
        return _finite(float(value) if isinstance(value, bool) else value)
    if data_type in ("CATEGORICAL", "TEXT"):
        if not isinstance(value, str):
            raise InvalidEvaluationError("value", f"{value!r:.100} is no text, which {data_type} asks for")
        if data_type == "CATEGORICAL":
            _check_line("value", value, MAX_CATEGORY)
        elif not value or len(value) > MAX_TEXT:
            raise InvalidEvaluationError("value", f"a text has 1 to {MAX_TEXT:,} characters, this one {len(value):,}")
        return encodable(value)
    raise InvalidEvaluationError("data_type", f"{data_type!r:.100} is none of {', '.join(get_args(ScoreType))}")


def _finite(number: float) -> float:
    try:
        finite = math.isfinite(float(number))
    except OverflowError:
        finite = False
    if not finite:
        raise InvalidEvaluationError("value", f"{str(number)[:30]} is not a finite number")
    return number


def _check_line(field: str, text: Any, most: int) -> None:
    if not isinstance(text, str):
        raise InvalidEvaluationError(field, f"is a text, not {_named(text)}")
    if not text:
        raise InvalidEvaluationError(field, "is empty")
    if len(text) > most:
        raise InvalidEvaluationError(field, f"has {len(text):,} characters, at most {most} are taken: {text[:40]!r}…")
    if control := _CONTROL.search(text):
        raise InvalidEvaluationError(field, f"has a control character at {control.start()}: {text[:100]!r}")


def _comment(comment: Any) -> str | None:
    if comment is None:
        return None
    if not isinstance(comment, str):
        raise InvalidEvaluationError("comment", f"is a text, not {_named(comment)}")
    text = storable(comment)
    if len(text) <= MAX_COMMENT:
        return text
    note = f"… ({len(text):,} characters)"
    return text[: MAX_COMMENT - len(note)] + note


def _named(value: Any) -> str:
    return "nothing (None)" if value is None else f"of the type {type(value).__name__}"
