"""Spans that are told a lot: what there is too much of never takes the place of what matters."""

import logging
from typing import Any

import pytest
from lodestream import get_client, propagate_attributes
from lodestream.testing import CapturedSpan, captured
from opentelemetry import trace

MANY: dict[str, Any] = {f"key {number}": number for number in range(2_000)}


def finish(span: Any) -> None:
    span.update(
        input="question", output="answer", model="m", usage_details={"input": 1}, level="ERROR", status_message="why",
        model_parameters={"n": 1}, version="v",
    )  # fmt: skip
    span.end()


def assert_whole(span: CapturedSpan) -> None:
    assert (span.input, span.output, span.level) == ("question", "answer", "ERROR")
    assert span.attributes["lodestream.observation.model.name"] == "m"
    assert span.attributes["lodestream.observation.usage_details"] == '{"input":1}'
    assert (span.otlp.status.code, span.otlp.status.message) == (2, "why")
    assert len(span.attributes) <= 1_020


def test_metadata_that_is_too_much_is_dropped_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), captured() as told:
        span = get_client().start_observation(name="a", metadata=MANY)
        for number in range(10):
            span.update(metadata={f"more {number}": number, "key 0": number})
        finish(span)
    assert_whole(told.named("a"))
    assert sum(key.startswith("lodestream.observation.metadata") for key in told.named("a").attributes) == 256
    assert told.named("a").attributes["lodestream.observation.metadata.key 0"] == "9"
    assert told.named("a").otlp.dropped_attributes_count == 2_000 - 256 + 10
    assert len([record for record in caplog.records if "metadata entries" in record.message]) == 1


def test_metadata_that_is_too_large_leaves_room_for_the_answer() -> None:
    with captured() as told:
        span = get_client().start_observation(name="a", metadata={str(number): "x" * 90_000 for number in range(20)})
        span.update(metadata={"list": list(range(1_000_000))})
        span.update(metadata="y" * 900_000)
        finish(span)
    assert_whole(told.named("a"))
    assert told.named("a").otlp.ByteSize() < 150_000
    assert told.named("a").otlp.dropped_attributes_count > 15


@pytest.mark.parametrize("nested", [False, True])
def test_propagated_metadata(nested: bool, caplog: pytest.LogCaptureFixture) -> None:
    inner = {f"more {number}": 1 for number in range(70)} if nested else None
    outer = propagate_attributes(user_id="ada", metadata=MANY)
    with caplog.at_level(logging.WARNING), captured() as told, outer, propagate_attributes(tags=["t"], metadata=inner):
        for _ in range(2):
            finish(get_client().start_observation(name="a"))
        with trace.get_tracer("theirs").start_as_current_span("theirs"):
            pass
    for span in told.spans:
        assert (span.attributes["user.id"], span.attributes["lodestream.trace.tags"]) == ("ada", ["t"])
        assert sum(key.startswith("lodestream.trace.metadata.") for key in span.attributes) == 64
    assert_whole(told.spans[0])
    assert len([record for record in caplog.records if "metadata entries" in record.message]) == 1


def test_attributes_of_other_instrumentations() -> None:
    with captured() as told:
        span = trace.get_tracer("theirs").start_span("theirs", attributes={f"a {n}": n for n in range(5_000)})
        with trace.use_span(span, end_on_exit=True), propagate_attributes(user_id="ada"):
            get_client().update_current_span(input="question", output="answer", level="ERROR", status_message="why")
            for number in range(5_000):
                span.set_attribute(f"later {number}", number)
    (theirs,) = told.spans
    assert (theirs.input, theirs.output, theirs.level) == ("question", "answer", "ERROR")
    assert theirs.attributes["user.id"] == "ada"
    assert len(theirs.attributes) <= 1_020
    assert theirs.otlp.dropped_attributes_count == 9_000


def test_a_field_that_cannot_be_told_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LODESTREAM_STRICT", raising=False)

    class Broken(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("mine")

    with captured() as told:
        finish(get_client().start_observation(name="a", metadata=Broken(a=1)))
    assert_whole(told.named("a"))
