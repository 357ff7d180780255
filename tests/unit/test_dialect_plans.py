"""What is remembered of a span's keys tells of the next span with the same ones no more than they do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from shared.spans.dialects import SpanColumns, read_columns, read_content, span_shape
from shared.spans.dialects.span_shape import ShapeCache
from tests.unit.test_dialects import key_values, source, understood


def of_pairs(*pairs: tuple[str, str]) -> SpanColumns:
    """A span whose keys may be there twice."""
    one = source({})
    one.span.attributes.extend(KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in pairs)
    return read_columns(one)


def test_of_a_key_that_is_there_twice_the_last_value_counts() -> None:
    for last in ("ada", "bob"):
        told = of_pairs(("user.id", "first"), ("input.value", "why?"), ("user.id", last))
        assert (told.user_id, told.input_preview) == (last, "why?")
    for last in ("because", "so"):
        told = of_pairs(
            ("llm.output_messages.0.message.content", "first"), ("llm.output_messages.0.message.content", last)
        )
        assert told.output_preview == f'[{{"content":"{last}"}}]'


def test_the_order_of_the_same_keys_is_a_shape_of_its_own() -> None:
    for user, session in (("ada", "s1"), ("bob", "s2")):
        for pairs in ((("user.id", user), ("session.id", session)), (("session.id", session), ("user.id", user))):
            told = of_pairs(*pairs)
            assert (told.user_id, told.session_id) == (user, session)


def test_a_value_that_tells_nothing_leaves_the_next_span_of_its_shape_alone() -> None:
    for first, expected in (("", "ada"), ("eve", "eve"), (None, "ada")):
        assert understood({"lodestream.user.id": first, "user.id": "ada"}).user_id == expected


def test_events_are_asked_only_of_spans_that_have_some() -> None:
    attributes = {"gen_ai.operation.name": "chat"}
    asked = Span.Event(name="gen_ai.user.message", attributes=key_values({"content": "why?"}))
    for events in ([], [asked], []):
        expected = '[{"role":"user","content":"why?"}]' if events else None
        assert understood(attributes, events=events).input_preview == expected
        assert read_content(source(attributes, events=events)).input == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("text", '["text"]'),
        ({"content": "inner"}, '[{"content":"inner","role":"user"}]'),
        ({"0": "a", "1": "b"}, '[{"0":"a","1":"b","role":"user"}]'),
        ("again", '["again"]'),
    ],
)
def test_a_flat_list_whose_values_are_objects_is_put_together_by_them(message: Any, expected: str) -> None:
    attributes = {"llm.input_messages.0.message": message, "llm.input_messages.0.message.role": "user"}
    for _ in range(3):
        assert read_content(source(attributes)).input == expected


def test_all_shapes_are_forgotten_when_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span_shape, "_MAX_CHARACTERS", 1_000)
    met = ShapeCache[int]()
    for n in range(100):
        assert met.remember(("key", str(n)), n) == met["key", str(n)] == n
        assert len(met) <= 1_000 // 100
    met.remember(("key", "99"), -1)
    assert met["key", "99"] == -1


def test_what_is_told_does_not_depend_on_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    attributes = {
        "user.id": "ada",
        **{f"llm.input_messages.{n}.message.role": str(n) for n in range(3)},
        **{f"llm.output_messages.{n}.message.role": str(n) for n in range(12)},
    }
    told = [understood(attributes) for _ in range(4)]
    monkeypatch.setattr(span_shape, "_MAX_CHARACTERS", 0)
    told += [understood(attributes) for _ in range(4)]
    assert all(each == told[0] for each in told)
    assert (told[0].output_preview or "").startswith('[{"role":"0"},{"role":"1"},{"role":"2"},{"role":"3"}')


@given(st.text(st.sampled_from("ab  \t\n\0é\u00a0\u2028\u3000\x1c\u200b"), max_size=900))
def test_a_preview_is_the_beginning_with_whitespace_folded(text: str) -> None:
    whole = " ".join(text[:800].split()).replace("\0", "\ufffd")
    expected = whole if len(whole) <= 200 else whole[:199] + "…"
    assert (understood({"input.value": text}).input_preview or "") == expected
