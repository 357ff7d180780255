"""Reads the settings of an evaluator one by one, so that every error names its field, and keeps those that matter."""

import copy
import difflib
import enum
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar, overload

from lodestream_evals.evaluators._errors import EvaluatorSpecError, SettingError
from lodestream_evals.evaluators._json import is_json, is_too_deep

MAX_NAME: Final = 200
MAX_TEXT: Final = 100_000


class Required(enum.Enum):
    """Stands where a default would: there is none."""

    REQUIRED = enum.auto()


REQUIRED: Final = Required.REQUIRED
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_T = TypeVar("_T")


class Spec:
    """The settings of one evaluator.

    `settings` are those that were read and are not what holds without them: whoever says the same has the same.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        """Raises EvaluatorSpecError where something given is no JSON."""
        if not isinstance(given, Mapping):
            raise EvaluatorSpecError("", f"the spec of an evaluator is an object, not {kind_of(given)}")
        for key, value in given.items():
            if is_too_deep(value) or not is_json([key, value], shared=True):
                raise EvaluatorSpecError(str(key), "is no JSON value, or nested too deeply")
        self._given = copy.deepcopy(dict(given))
        self._known: set[str] = set()
        self.settings: dict[str, Any] = {}

    def __contains__(self, key: str) -> bool:
        """Whether the setting is given."""
        return self._given.get(key) is not None

    def read(self, key: str, default: Any, checked: Callable[[Any], _T]) -> _T:
        """A setting as `checked` returns it. Raises EvaluatorSpecError where that raises, or where it is missing."""
        self._known.add(key)
        if key not in self:
            if isinstance(default, Required):
                raise EvaluatorSpecError(key, "is missing")
            return default  # type: ignore[no-any-return]
        try:
            value = checked(self._given[key])
        except SettingError as error:
            raise EvaluatorSpecError(key, str(error)) from None
        except EvaluatorSpecError as error:
            raise EvaluatorSpecError(f"{key}.{error.field}".removesuffix("."), error.message) from None
        if value != default:
            self.settings[key] = value
        return value

    def built(self, key: str, make: Callable[[], _T]) -> _T:
        """What is made of a setting that was read. Raises EvaluatorSpecError where `make` raises SettingError."""
        try:
            return make()
        except SettingError as error:
            raise EvaluatorSpecError(key, str(error)) from None

    @overload
    def text(self, key: str, default: str | Required = ..., *, most: int = ...) -> str: ...
    @overload
    def text(self, key: str, default: None, *, most: int = ...) -> str | None: ...
    def text(self, key: str, default: Any = REQUIRED, *, most: int = MAX_TEXT) -> str | None:
        """A text that is not empty."""
        return self.read(key, default, lambda value: checked_text(value, most))

    def flag(self, key: str, *, default: bool = False) -> bool:
        """True or false."""
        return self.read(key, default, _checked_flag)

    @overload
    def number(self, key: str, default: float | Required = ..., *, least: float = ..., most: float = ...) -> float: ...
    @overload
    def number(self, key: str, default: None, *, least: float = ..., most: float = ...) -> float | None: ...
    def number(
        self, key: str, default: Any = REQUIRED, *, least: float = -math.inf, most: float = math.inf
    ) -> float | None:
        """A finite number within bounds; one without a fraction is an integer."""
        return self.read(key, default, lambda value: checked_number(value, least, most))

    @overload
    def whole(self, key: str, default: int | Required = ..., *, least: int = ..., most: int = ...) -> int: ...
    @overload
    def whole(self, key: str, default: None, *, least: int = ..., most: int = ...) -> int | None: ...
    def whole(self, key: str, default: Any = REQUIRED, *, least: int = 0, most: int = 2**53) -> int | None:
        """An integer within bounds."""
        return self.read(key, default, lambda value: _checked_whole(value, least, most))

    def one_of(self, key: str, options: Sequence[str], default: str | Required = REQUIRED) -> str:
        """One of these texts."""
        return str(self.read(key, default, lambda value: _checked_option(value, options)))

    def texts(self, key: str) -> list[str]:
        """A text or a list of texts, none of them empty; without the setting, none."""
        return self.read(key, [], _checked_texts)

    def done(self, also: Sequence[str] = ()) -> None:
        """Raises EvaluatorSpecError for a setting that nobody has read."""
        known = {*self._known, *also}
        for key in self._given:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1)
                hint = f"; do you mean {near[0]}?" if near else f"; there are {', '.join(sorted(known))}"
                raise EvaluatorSpecError(str(key), f"is no setting of this kind{hint}")


def checked_text(value: Any, most: int = MAX_TEXT) -> str:
    """Raises SettingError when it is no text, or empty, or too long."""
    if not isinstance(value, str):
        raise SettingError(f"is a text, not {kind_of(value)}")
    if not value:
        raise SettingError("is empty")
    if len(value) > most:
        raise SettingError(f"has {len(value):,} characters, at most {most:,} are taken")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SettingError("has a lone surrogate, which no UTF-8 has") from None
    return value


def checked_line(value: Any, most: int = MAX_NAME) -> str:
    """Raises SettingError when it is no text of one line that a score's name can be."""
    line = checked_text(value, most)
    if _CONTROL.search(line):
        raise SettingError("has a control character")
    return line


def checked_number(value: Any, least: float = -math.inf, most: float = math.inf) -> float:
    """Raises SettingError when it is no finite number, or out of bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingError(f"is a number, not {kind_of(value)}")
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise SettingError("is not a finite number")
    if not least <= value <= most:
        raise SettingError(_out_of_bounds(value, least, most))
    return int(value) if isinstance(value, float) and value.is_integer() else value


def kind_of(value: Any) -> str:
    """In JSON's words."""
    names = {str: "a text", bool: "true or false", int: "a number", float: "a number", list: "a list"}
    if value is None:
        return "null"
    return "an object" if isinstance(value, Mapping) else names.get(type(value), type(value).__name__)


def _checked_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise SettingError(f"is true or false, not {kind_of(value)}")
    return value


def _checked_whole(value: Any, least: int, most: int) -> int:
    number = checked_number(value, least, most)
    if not isinstance(number, int):
        raise SettingError(f"is a whole number, not {number}")
    return number


def _checked_option(value: Any, options: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in options:
        raise SettingError(f"is one of {', '.join(options)}, not {value!r:.60}")
    return value


def _checked_texts(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts:
        raise SettingError(f"is a text or a list of texts, not {kind_of(value)}")
    return [checked_text(each) for each in texts]


def _out_of_bounds(value: float, least: float, most: float) -> str:
    bounds: dict[Literal["least", "most"], str] = {}
    if least > -math.inf:
        bounds["least"] = f"at least {least:g}"
    if most < math.inf:
        bounds["most"] = f"at most {most:g}"
    return f"is {' and '.join(bounds.values())}, not {value:g}"
