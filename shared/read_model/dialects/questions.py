"""Which attribute tells of which field: one table from key to questions, made once of what the dialects declare.

A span has some ten attributes and a row some twenty fields, for which six dialects know a hundred keys. Asking each
dialect for each field costs 30 µs a span, walking what is there through this table 8.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from shared.read_model.blocks import Source
from shared.read_model.dialects.fields import NOT_TOLD, Dialect, Found, Told
from shared.read_model.dialects.order import DIALECTS
from shared.read_model.dialects.values import number_of, text_of, texts_of

_MOST_REMEMBERED = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What one dialect may tell of one field."""

    field: str
    rank: int
    """Of several questions of a field the smallest that has an answer counts."""
    ask: Callable[[Found, Source], Any]
    """The answer, or None."""


Asked = dict[str, list[Question]]
"""The questions that a span's attributes may answer, by field."""


def first(questions: Sequence[Question] | None, found: Found, source: Source) -> Any:
    """The first answer to one of the questions of a field; None where there is none."""
    if not questions:
        return None
    for question in questions if len(questions) == 1 else sorted(questions, key=_rank):
        answer = question.ask(found, source)
        if answer is not None:
            return answer
    return None


def _rank(question: Question) -> int:
    return question.rank


def _text(key: str, found: Found, _source: Source) -> str | None:
    return text_of(found[key])


def _telling_text(key: str, found: Found, _source: Source) -> str | None:
    return text_of(found[key]) or None


def _version(key: str, found: Found, _source: Source) -> int | None:
    number = number_of(found[key])
    return int(number) if number is not None and 0 <= number < 2**31 else None


def _texts(key: str, found: Found, _source: Source) -> list[str]:
    return texts_of(found[key])


def _truth(key: str, found: Found, _source: Source) -> bool | None:
    value: AnyValue = found[key]
    return value.bool_value or text_of(value) == "true" or None


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
_OF_A_KEY: dict[str, Callable[[str, Found, Source], Any]] = {
    **dict.fromkeys(NAMES, _telling_text),
    "level": _telling_text,
    "prompt_version": _version,
    "tags": _texts,
    "as_root": _truth,
    "input": _text,
    "output": _text,
}
_OF_A_FUNCTION = {
    "type": "type", "usage": "usage", "cost": "cost", "first_token_us": "first_token_us", "input": "input_of",
    "output": "output_of",
}  # fmt: skip


def _questions() -> Iterator[tuple[Told, Question]]:
    """Every question there is, with what has to be there for it."""
    for field in dict.fromkeys((*_OF_A_KEY, *_OF_A_FUNCTION)):
        ranks = count()
        known: set[str] = set()
        for dialect in DIALECTS:
            for told in _told(dialect, field, known):
                yield told, Question(field, next(ranks), told.read)


def _told(dialect: Dialect, field: str, known: set[str]) -> Iterator[Told]:
    """What a dialect tells of a field by plain keys, which need be asked for once only, and by a function."""
    if of_a_key := _OF_A_KEY.get(field):
        keys = [key for key in getattr(dialect, NAMES.get(field, field)) if key not in known]
        known.update(keys)
        for key in keys:
            yield Told(read=partial(of_a_key, key), keys=(key,))
    if (function := _OF_A_FUNCTION.get(field)) and (told := getattr(dialect, function)) is not NOT_TOLD:
        yield told


class _Places(dict[str, tuple[Question, ...]]):
    """The questions of a key; most keys have none. What begins like a known list is remembered as it comes."""

    def __init__(self, questions: Iterable[tuple[Told, Question]]) -> None:
        questions = list(questions)
        self._prefixes = [(prefix, question) for told, question in questions for prefix in told.prefixes]
        self._declared: dict[str, tuple[Question, ...]] = {}
        for told, question in questions:
            for key in dict.fromkeys(told.keys):
                self._declared[key] = (*self._declared.get(key, ()), question)
        super().__init__(self._declared)

    def __missing__(self, key: str) -> tuple[Question, ...]:
        if len(self) > _MOST_REMEMBERED:
            self.clear()
            self.update(self._declared)
        its = tuple(question for prefix, question in self._prefixes if key.startswith(prefix))
        if key in self._declared:
            its = (*self._declared[key], *its)
        self[key] = its
        return its


PLACES = _Places(_questions())
OF_EVENTS = tuple(question for told, question in _questions() if told.events)
"""Questions that a span's events may answer."""
