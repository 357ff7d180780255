"""Which of a span's attributes answer which field: found out once for each shape, not for each span."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from shared.read_model.blocks import Source
from shared.read_model.dialects.fields import Found
from shared.read_model.dialects.questions import OF_EVENTS, PLACES, Question
from shared.read_model.dialects.shapes import Shape, Shapes


@dataclass(frozen=True, slots=True)
class Placed:
    """A question, and which attributes it is about."""

    of_value: Callable[[AnyValue], Any] | None
    at: int
    """Where the attribute is whose value answers."""
    read: Callable[[Found, Source], Any]
    """Where there is no `of_value`."""
    reads: tuple[tuple[str, int], ...]
    """The keys that it reads, and where they are."""


Plan = dict[str, tuple[Placed, ...]]
"""The questions that attributes of a shape may answer, by field, in the order in which they are asked."""


def plan_of(attributes: Sequence[KeyValue], *, events: bool) -> Plan:
    """The plan for these attributes of a span; `events`: it has some."""
    return (_WITH_EVENTS if events else _WITHOUT_EVENTS)[tuple([attribute.key for attribute in attributes])]


def first(asked: Sequence[Placed], attributes: Sequence[KeyValue], source: Source) -> Any:
    """The first answer to one of the questions of a field; None where there is none."""
    for placed in asked:
        if (of_value := placed.of_value) is not None:
            answer = of_value(attributes[placed.at].value)
        else:
            answer = placed.read({key: attributes[at].value for key, at in placed.reads}, source)
        if answer is not None:
            return answer
    return None


def _plan(shape: Shape, *, more: Sequence[Question]) -> Plan:
    """Of a key that is there twice, the last value counts."""
    places = {key: at for at, key in enumerate(shape) if PLACES[key]}
    asked = dict.fromkeys(question for key in places for question in PLACES[key]) | dict.fromkeys(more)
    plan: Plan = {}
    for question in sorted(asked, key=_rank):
        plan[question.field] = (*plan.get(question.field, ()), _placed(question, places))
    return plan


def _placed(question: Question, places: dict[str, int]) -> Placed:
    told = question.told
    if question.key is not None:
        return Placed(question.of_value, places[question.key], told.read, ())
    reads = [(key, at) for key, at in places.items() if key in told.keys or key.startswith(told.prefixes)]
    return Placed(None, -1, told.read, tuple(reads))


def _rank(question: Question) -> int:
    return question.rank


_WITHOUT_EVENTS = Shapes(partial(_plan, more=()))
_WITH_EVENTS = Shapes(partial(_plan, more=OF_EVENTS))
