"""What the workloads tell: an endless, seeded sequence of requests with everything that makes folding hard."""

import random
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from tests.torture.ledger import Told
from tests.torture.wire import bytes_digest

_LIVE_TRACES, _LONGEST_TRACE, _MOST_SPANS = 6, 20, 10
_YEAR_2150_NS = 5_680_281_600_000_000_000


class Telling(NamedTuple):
    """One telling of a span, and whether the gateway is to take it."""

    span: Span
    valid: bool = True

    @property
    def told(self) -> Told:
        """As the ledger has it."""
        span = self.span
        return Told(span.trace_id.hex(), span.span_id.hex(), bytes_digest(span.SerializeToString()), self.valid)


@dataclass(slots=True)
class _Trace:
    trace_id: bytes
    span_ids: list[bytes] = field(default_factory=list)


class Story:
    """Spans told whole; begun and ended later; ended before they are begun; corrected; with absurd clocks; refused."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        """Whoever tells the story may draw from it, too."""
        self._live: list[_Trace] = []
        self._later: list[Telling] = []

    def request(self) -> list[Telling]:
        """Some tellings of several traces."""
        return [self._telling() for _ in range(self.random.randint(1, _MOST_SPANS))]

    def _telling(self) -> Telling:
        chance = self.random.random()
        if self._later and chance < 0.3:
            return self._later.pop(self.random.randrange(len(self._later)))
        whole = self._span()
        if chance < 0.31:
            whole.start_time_unix_nano = 0  # the gateway refuses it
            return Telling(whole, valid=False)
        if chance < 0.33:
            whole.start_time_unix_nano, whole.end_time_unix_nano = _YEAR_2150_NS, _YEAR_2150_NS + 1
            return Telling(whole)
        if chance < 0.7:
            return Telling(whole)
        other = Span()
        other.CopyFrom(whole)
        if chance < 0.9:  # begun, and ended in another request
            other.end_time_unix_nano, other.name = 0, f"{whole.name} begun"
            del other.attributes[:]
            other.attributes.append(_attribute("user.id", f"user-{self.random.randrange(50)}"))
        else:
            other.end_time_unix_nano, other.name = whole.end_time_unix_nano + 1_000_000, f"{whole.name} corrected"
        pair = [Telling(whole), Telling(other)]
        self.random.shuffle(pair)
        self._later.append(pair[0])
        return pair[1]

    def _span(self) -> Span:
        rng, trace = self.random, self._trace()
        span_id, parent = rng.randbytes(8), rng.choice(trace.span_ids) if trace.span_ids else b""
        trace.span_ids.append(span_id)
        start = time.time_ns() - rng.randrange(1_000_000_000)
        attributes = [
            _attribute("payload", rng.randbytes(rng.choice((8, 64, 700))).hex()),
            _attribute("gen_ai.usage.input_tokens", rng.randrange(1, 5_000)),
            _attribute("gen_ai.usage.output_tokens", rng.randrange(1, 500)),
            _attribute("gen_ai.request.model", rng.choice(("gpt-4o", "nobody-s-model"))),
        ]
        return Span(
            trace_id=trace.trace_id,
            span_id=span_id,
            parent_span_id=parent,
            name=f"step {len(trace.span_ids)}",
            start_time_unix_nano=start,
            end_time_unix_nano=start + rng.randrange(1_000, 3_000_000_000),
            attributes=attributes[: 1 if parent and rng.random() < 0.5 else None],
        )

    def _trace(self) -> _Trace:
        if len(self._live) < _LIVE_TRACES:
            self._live.append(_Trace(self.random.randbytes(16)))
        chosen = self.random.choice(self._live)
        if len(chosen.span_ids) >= _LONGEST_TRACE:
            self._live.remove(chosen)
            return self._trace()
        return chosen


def export_request(tellings: list[Telling]) -> ExportTraceServiceRequest:
    """The request that tells them."""
    scope_spans = ScopeSpans(spans=[telling.span for telling in tellings])
    resource = Resource(attributes=[_attribute("service.name", "torture")])
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(resource=resource, scope_spans=[scope_spans])])


def _attribute(key: str, value: str | int) -> KeyValue:
    told = AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)
    return KeyValue(key=key, value=told)
