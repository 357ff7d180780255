"""Which of a span's attributes answer which field: found out once for each shape, not for each span.

A plan is kept simple to make, since some emitters write shapes that never come again: reading hot fields then takes up
to a fifth longer than it would without plans.
"""

from collections.abc import Sequence
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from shared.read_model.blocks import Source
from shared.read_model.dialects.questions import OF_EVENTS, PLACES, Question
from shared.read_model.dialects.shapes import Shape, Shapes
from shared.read_model.dialects.values import Cleaner

Places = list[tuple[str, int]]
"""Keys of attributes, and where these are."""
Plan = dict[str, list[tuple[Question, Places]]]
"""By field, the questions that attributes of a shape may answer, in the order in which they are asked, and where."""

_WITHOUT_EVENTS = Shapes[Plan]()
_WITH_EVENTS = Shapes[Plan]()


def plan_of(attributes: Sequence[KeyValue], *, events: bool) -> Plan:
    """The plan for these attributes of a span; `events`: it has some."""
    plans = _WITH_EVENTS if events else _WITHOUT_EVENTS
    shape = tuple([attribute.key for attribute in attributes])
    plan = plans.get(shape)
    return plans.remember(shape, _plan(shape, more=OF_EVENTS if events else ())) if plan is None else plan


def first(
    asked: Sequence[tuple[Question, Places]], attributes: Sequence[KeyValue], source: Source, clean: Cleaner
) -> Any:
    """The first answer to one of the questions of a field; None where there is none."""
    for question, places in asked:
        if (of_value := question.of_value) is not None:
            answer = of_value(attributes[places[0][1]].value, clean)
        else:
            answer = question.read({key: attributes[at].value for key, at in places}, source, clean)
        if answer is not None:
            return answer
    return None


def _plan(shape: Shape, *, more: Sequence[Question]) -> Plan:
    asked: dict[Question, Places] = {question: [] for question in more}
    for key, at in {key: at for at, key in enumerate(shape)}.items():  # of a key that is there twice, the last counts
        for question in PLACES[key]:
            if question in asked:
                asked[question].append((key, at))
            else:
                asked[question] = [(key, at)]
    plan: Plan = {}
    for question, places in asked.items():
        plan.setdefault(question.field, []).append((question, places))
    for its in plan.values():
        if len(its) > 1:
            its.sort(key=_rank)
    return plan


def _rank(asked: tuple[Question, Places]) -> int:
    return asked[0].rank
