"""Which attributes of a span give which field: rules made once of what the dialects declare, a plan for each shape.

A span has some ten attributes and a row some twenty fields, for which six dialects know a hundred keys. Trying each
dialect for each field costs 30 µs a span, looking up the rules of the keys that are there 8. A plan saves that for
the next span with the same keys. It is cheap to make, since some emitters write shapes that never come again:
reading their columns takes up to a fifth longer than without plans.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from shared.spans.blocks import ReceivedSpan
from shared.spans.dialects.dialect import NO_EXTRACTOR, Dialect, Extractor
from shared.spans.dialects.registry import DIALECTS
from shared.spans.dialects.span_shape import ShapeCache, SpanShape
from shared.spans.dialects.values import AMOUNT, Cleaner, number_of, text_of, texts_of

_MAX_CACHED_KEYS = 20_000
_MAX_CACHED_KEY = 200  # characters; what no instrumentation writes twice would only take memory


@dataclass(frozen=True, slots=True, eq=False)
class FieldRule:
    """How one dialect reads one field: from the value of one key, or by an extractor."""

    field: str
    rank: int
    """Among the rules of a field, the one with the smallest rank that gives a value wins."""
    extractor: Extractor
    """Which attributes it needs."""
    read_value: Callable[[AnyValue, Cleaner], Any] | None
    """Reads the one attribute; None: the extractor reads them all."""


AttributeIndexes = list[tuple[str, int]]
"""Keys of attributes, each with its index in the span's list."""
ExtractionPlan = dict[str, list[tuple[FieldRule, AttributeIndexes]]]
"""By field, the rules that a span of some shape may satisfy, best rank first, and the attributes for each."""


def plan_for(attributes: Sequence[KeyValue], *, has_events: bool) -> ExtractionPlan:
    """The plan for a span with these attributes."""
    plans = _PLANS_WITH_EVENTS if has_events else _PLANS
    shape = tuple([attribute.key for attribute in attributes])
    plan = plans.get(shape)
    return plans.remember(shape, _make_plan(shape, EVENT_RULES if has_events else ())) if plan is None else plan


def first_value(
    rules: Sequence[tuple[FieldRule, AttributeIndexes]],
    attributes: Sequence[KeyValue],
    source: ReceivedSpan,
    clean: Cleaner,
) -> Any:
    """The value that the first of a field's rules gives; None where none does."""
    for rule, indexes in rules:
        if (read_value := rule.read_value) is not None:
            value = read_value(attributes[indexes[0][1]].value, clean)
        else:
            value = rule.extractor.read({key: attributes[index].value for key, index in indexes}, source, clean)
        if value is not None:
            return value
    return None


def _make_plan(shape: SpanShape, event_rules: Sequence[FieldRule]) -> ExtractionPlan:
    indexes_by_rule: dict[FieldRule, AttributeIndexes] = {rule: [] for rule in event_rules}
    for key, index in {key: index for index, key in enumerate(shape)}.items():  # of a key that is there twice, the last
        for rule in RULES_BY_KEY[key]:
            if rule in indexes_by_rule:
                indexes_by_rule[rule].append((key, index))
            else:
                indexes_by_rule[rule] = [(key, index)]
    plan: ExtractionPlan = {}
    for rule, indexes in indexes_by_rule.items():
        plan.setdefault(rule.field, []).append((rule, indexes))
    for rules in plan.values():
        if len(rules) > 1:
            rules.sort(key=_rank)
    return plan


def _rank(rule: tuple[FieldRule, AttributeIndexes]) -> int:
    return rule[0].rank


# The rules


def _text_or_none(value: AnyValue, clean: Cleaner) -> str | None:
    return value.string_value or text_of(value, clean) or None


def _version(value: AnyValue, clean: Cleaner) -> int | None:
    number = number_of(value, clean)
    if number is None or 0 <= number < 2**31:
        return None if number is None else int(number)
    clean.count(AMOUNT)
    return None


def _true_or_none(value: AnyValue, clean: Cleaner) -> bool | None:
    return value.bool_value or text_of(value, clean) == "true" or None


TEXT_FIELDS = {
    "name": "span_name",
    **{
        field: field
        for field in (
            "status_message", "model", "provider", "prompt_name", "trace_name", "user_id", "session_id", "environment",
            "release", "version",
        )
    },
}  # fmt: skip
"""Fields that are the text of one attribute, and the name under which dialects declare its keys."""
_VALUE_READERS: dict[str, Callable[[AnyValue, Cleaner], Any]] = {
    **dict.fromkeys(TEXT_FIELDS, _text_or_none),
    "level": _text_or_none,
    "prompt_version": _version,
    "tags": texts_of,
    "as_root": _true_or_none,
    "input": text_of,
    "output": text_of,
}
_EXTRACTORS = {
    "type": "type", "usage": "usage", "cost": "cost", "first_token_us": "first_token_us", "input": "input_of",
    "output": "output_of",
}  # fmt: skip
"""Fields that extractors read, and the name under which dialects declare these."""


def _make_rules() -> Iterator[FieldRule]:
    """The rules of all dialects, in the order in which dialects are believed."""
    for field in dict.fromkeys((*_VALUE_READERS, *_EXTRACTORS)):
        read_value, extractor_name = _VALUE_READERS.get(field), _EXTRACTORS.get(field)
        ranks, seen = count(), set[str]()
        for dialect in DIALECTS:
            if read_value:
                for key in _keys(dialect, field):
                    if key not in seen:  # a dialect that is believed more has declared it
                        seen.add(key)
                        extractor = Extractor(read=NO_EXTRACTOR.read, keys=(key,))
                        yield FieldRule(field, next(ranks), extractor, read_value)
            if extractor_name and (extractor := getattr(dialect, extractor_name)) is not NO_EXTRACTOR:
                yield FieldRule(field, next(ranks), extractor, None)


def _keys(dialect: Dialect, field: str) -> tuple[str, ...]:
    keys: tuple[str, ...] = getattr(dialect, TEXT_FIELDS.get(field, field))
    return keys


class _RulesByKey(dict[str, tuple[FieldRule, ...]]):
    """The rules that read a key, cached as keys are met; most keys have none."""

    def __init__(self, rules: Iterable[FieldRule]) -> None:
        rules = list(rules)
        self._by_prefix = [(prefix, rule) for rule in rules for prefix in rule.extractor.prefixes]
        self._prefixes = tuple(prefix for prefix, _ in self._by_prefix)
        self._declared: dict[str, tuple[FieldRule, ...]] = {}
        for rule in rules:
            for key in dict.fromkeys(rule.extractor.keys):
                self._declared[key] = (*self._declared.get(key, ()), rule)
        super().__init__()

    def __missing__(self, key: str) -> tuple[FieldRule, ...]:
        if len(self) > _MAX_CACHED_KEYS:
            self.clear()
        rules = self._declared.get(key, ())
        if key.startswith(self._prefixes):
            rules += tuple([rule for prefix, rule in self._by_prefix if key.startswith(prefix)])
        if len(key) <= _MAX_CACHED_KEY:
            self[key] = rules
        return rules


_RULES = tuple(_make_rules())
RULES_BY_KEY = _RulesByKey(_RULES)
EVENT_RULES = tuple(rule for rule in _RULES if rule.extractor.events)
"""Rules that a span's events may satisfy."""
_PLANS = ShapeCache[ExtractionPlan]()
_PLANS_WITH_EVENTS = ShapeCache[ExtractionPlan]()
