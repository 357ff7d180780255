"""For the tests of programs that use Lodestream: what they would have sent, without a server.

def test_answers_are_traced():
    with captured() as recorded:
        answer("Where is my order?")
    assert recorded.named("answer").output == "On its way."
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.score_event_pb2 import ScoreRecorded
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from lodestream._client import Lodestream
from lodestream._recording.attributes import INPUT, LEVEL, OUTPUT, TYPE
from lodestream._recording.clients import isolated
from lodestream._recording.span import Observation
from lodestream._scores import Score
from lodestream._wire.payloads import EncodedEvent

__all__ = ["Captured", "CapturedScore", "CapturedSpan", "captured"]


@dataclass(frozen=True, slots=True)
class CapturedSpan:
    """A span that ended, as the server would have got it."""

    otlp: Span
    scope: str = ""
    """Who made it: the instrumentation library's name and version."""

    @property
    def name(self) -> str:
        return self.otlp.name

    @property
    def id(self) -> str:
        """16 hex digits; the same for `parent_id`, where "" says that it is a root."""
        return self.otlp.span_id.hex()

    @property
    def parent_id(self) -> str:
        return self.otlp.parent_span_id.hex()

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return self.otlp.trace_id.hex()

    @property
    def attributes(self) -> dict[str, Any]:
        """Texts, booleans, numbers, and lists of those."""
        return {pair.key: _value(pair.value) for pair in self.otlp.attributes}

    @property
    def type(self) -> str:
        """The type given with `as_type`; "span" for spans of other instrumentations."""
        return str(self.attributes.get(TYPE, "span"))

    @property
    def level(self) -> str:
        return str(self.attributes.get(LEVEL, "DEFAULT"))

    @property
    def input(self) -> Any:
        """The input as it was given, after masking and one way through JSON."""
        return _decoded(self.attributes.get(INPUT))

    @property
    def output(self) -> Any:
        return _decoded(self.attributes.get(OUTPUT))


@dataclass(frozen=True, slots=True)
class CapturedScore:
    """A score, as the server would have got it."""

    event: ScoreRecorded

    @property
    def name(self) -> str:
        return self.event.name

    @property
    def value(self) -> float | str | bool:
        """A number, a boolean, or a text."""
        kind = self.event.value.WhichOneof("kind")
        assert kind is not None, "scores are made with a value"
        value: float | str | bool = getattr(self.event.value, kind)
        return value

    @property
    def trace_id(self) -> str:
        """32 hex digits; "" for a session or a run."""
        return self.event.target.trace_id.hex()

    @property
    def observation_id(self) -> str:
        """16 hex digits; "" when the trace as a whole is scored, or none."""
        return self.event.target.span_id.hex()


@dataclass(slots=True)
class Captured:
    """The spans that ended, the scores, and other events, each in their order."""

    spans: list[CapturedSpan] = field(default_factory=list)
    scores: list[CapturedScore] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    """What else was told: of experiments, the items that finished, and the end."""

    def _take(self, record: Observation | EncodedEvent) -> None:
        if isinstance(record, Score):
            self.scores.append(CapturedScore(Event.FromString(record.event).score_recorded))
        elif isinstance(record, EncodedEvent):
            self.events.append(Event.FromString(record.event))
        else:
            scope = f"{record._scope.name} {record._scope.version}"
            self.spans.append(CapturedSpan(Span.FromString(record._as_otlp()), scope))

    def named(self, name: str) -> CapturedSpan:
        """Return the one span of a name.

        Args:
            name: The span's name.

        Raises:
            LookupError: There is none, or there are several.
        """
        spans = [span for span in self.spans if span.name == name]
        if len(spans) != 1:
            names = ", ".join(span.name for span in self.spans) or "nothing"
            raise LookupError(f"{len(spans)} spans are named {name!r}; there are: {names}")
        return spans[0]


class _Sink:
    """Takes what a client records."""

    def __init__(self, captured: Captured) -> None:
        self._captured = captured

    def emit(self, record: Observation | EncodedEvent, /) -> None:
        self._captured._take(record)


@contextmanager
def captured(**settings: Any) -> Iterator[Captured]:
    """Have `get_client()` give a client that sends nothing, within a block.

    Args:
        **settings: Arguments of `Lodestream`.

    Yields:
        What would have been sent.
    """
    recorded = Captured()
    with isolated(override=True):
        client = Lodestream(**{"secret_key": "for tests", "tracing_enabled": True, **settings})
        client._recorder.sink = _Sink(recorded)
        yield recorded


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _value(pair.value) for pair in value.kvlist_value.values}
    return getattr(value, kind) if kind else None


def _decoded(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return text
