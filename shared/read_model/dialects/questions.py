"""Which attribute tells of which field: one table from key to questions, made once of what the dialects declare.

A span has some ten attributes and a row some twenty fields, for which six dialects know a hundred keys. Asking each
dialect for each field costs 30 µs a span, walking what is there through this table 8.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from shared.read_model.blocks import Source
from shared.read_model.dialects.fields import NOT_TOLD, Dialect, Found, Told
from shared.read_model.dialects.order import DIALECTS
from shared.read_model.dialects.values import AMOUNT, Cleaner, number_of, text_of, texts_of

_MOST_REMEMBERED = 20_000
_LONGEST_REMEMBERED = 200  # characters; what no instrumentation writes twice would only take memory


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What one dialect may tell of one field: in the value of a key, or in what its function reads."""

    field: str
    rank: int
    """Of several questions of a field the smallest that has an answer counts."""
    told: Told
    """What has to be there for it."""
    of_value: Callable[[AnyValue, Cleaner], Any] | None
    read: Callable[[Found, Source, Cleaner], Any]
    """Where there is no `of_value`."""


def _telling_text(value: AnyValue, clean: Cleaner) -> str | None:
    return value.string_value or text_of(value, clean) or None


def _version(value: AnyValue, clean: Cleaner) -> int | None:
    number = number_of(value, clean)
    if number is None or 0 <= number < 2**31:
        return None if number is None else int(number)
    clean.count(AMOUNT)
    return None


def _truth(value: AnyValue, clean: Cleaner) -> bool | None:
    return value.bool_value or text_of(value, clean) == "true" or None


NAMES = {
    "name": "span_name",
    **{
        field: field
        for field in (
            "status_message", "model", "provider", "prompt_name", "trace_name", "user_id", "session_id", "environment",
            "release", "version",
        )
    },
}  # fmt: skip
"""Fields that are a text of one key, and what the dialects call them."""
_OF_A_VALUE: dict[str, Callable[[AnyValue, Cleaner], Any]] = {
    **dict.fromkeys(NAMES, _telling_text),
    "level": _telling_text,
    "prompt_version": _version,
    "tags": texts_of,
    "as_root": _truth,
    "input": text_of,
    "output": text_of,
}
_OF_A_FUNCTION = {
    "type": "type", "usage": "usage", "cost": "cost", "first_token_us": "first_token_us", "input": "input_of",
    "output": "output_of",
}  # fmt: skip


def _questions() -> Iterator[Question]:
    """Every question there is."""
    for field in dict.fromkeys((*_OF_A_VALUE, *_OF_A_FUNCTION)):
        of_value, function = _OF_A_VALUE.get(field), _OF_A_FUNCTION.get(field)
        ranks, known = count(), set[str]()
        for dialect in DIALECTS:
            if of_value:
                for key in _keys(dialect, field):
                    if key not in known:  # the dialect before has asked it already
                        known.add(key)
                        told = Told(read=_nothing, keys=(key,))
                        yield Question(field, next(ranks), told, of_value, _nothing)
            if function and (told := getattr(dialect, function)) is not NOT_TOLD:
                yield Question(field, next(ranks), told, None, told.read)


def _keys(dialect: Dialect, field: str) -> tuple[str, ...]:
    keys: tuple[str, ...] = getattr(dialect, NAMES.get(field, field))
    return keys


def _nothing(_found: Found, _source: Source, _clean: Cleaner) -> None:
    return None


class _Places(dict[str, tuple[Question, ...]]):
    """The questions of a key, remembered as keys come; most have none."""

    def __init__(self, questions: Iterable[Question]) -> None:
        questions = list(questions)
        self._prefixes = [(prefix, question) for question in questions for prefix in question.told.prefixes]
        self._beginnings = tuple(prefix for prefix, _ in self._prefixes)
        self._declared: dict[str, tuple[Question, ...]] = {}
        for question in questions:
            for key in dict.fromkeys(question.told.keys):
                self._declared[key] = (*self._declared.get(key, ()), question)
        super().__init__()

    def __missing__(self, key: str) -> tuple[Question, ...]:
        if len(self) > _MOST_REMEMBERED:
            self.clear()
        its = self._declared.get(key, ())
        if key.startswith(self._beginnings):
            its += tuple([question for prefix, question in self._prefixes if key.startswith(prefix)])
        if len(key) <= _LONGEST_REMEMBERED:
            self[key] = its
        return its


_QUESTIONS = tuple(_questions())
PLACES = _Places(_QUESTIONS)
OF_EVENTS = tuple(question for question in _QUESTIONS if question.told.events)
"""Questions that a span's events may answer."""
