"""Which spans of a request can't be taken, and requests made of some of its spans. Pure.

Refused is what has no identity. Odd values (absurd clocks, NUL characters, long names) are the projection's to clean:
the log keeps what came. How deep values nest is bounded by protobuf's own parser: about fifty lists in each other.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)
_MAX_NAME = 65_536


class Place(NamedTuple):
    """Where a span is in its request: the indexes of resource, scope and span."""

    resource: int
    scope: int
    span: int


@dataclass(frozen=True, slots=True)
class RefusedSpan:
    """A span that is not taken: where it is, the field that is wrong ("": the span itself), and how."""

    place: Place
    field: str
    reason: str

    @property
    def path(self) -> str:
        """As in "resource_spans[0].scope_spans[0].spans[3].trace_id"."""
        r, s, n = self.place
        return f"resource_spans[{r}].scope_spans[{s}].spans[{n}]{'.' if self.field else ''}{self.field}"


def find_faults(request: ExportTraceServiceRequest) -> list[RefusedSpan]:
    """The spans that can't be taken, in order, with the first fault of each."""
    return [
        RefusedSpan(Place(r, s, n), *fault)
        for r, resource in enumerate(request.resource_spans)
        for s, scope in enumerate(resource.scope_spans)
        for n, span in enumerate(scope.spans)
        if (fault := _fault(span)) is not None
    ]


def places_of(request: ExportTraceServiceRequest, *, without: Collection[Place] = ()) -> list[Place]:
    """Where its spans are, in order, but for those left out."""
    places = (
        Place(r, s, n)
        for r, resource in enumerate(request.resource_spans)
        for s, scope in enumerate(resource.scope_spans)
        for n in range(len(scope.spans))
    )
    return [place for place in places if place not in without] if without else list(places)


def part_of(request: ExportTraceServiceRequest, places: Sequence[Place]) -> ExportTraceServiceRequest:
    """A request of these spans only, in order, with their resources and scopes."""
    part = ExportTraceServiceRequest()
    at: tuple[int, int] | None = None
    for r, s, n in places:
        whole = request.resource_spans[r]
        scope = whole.scope_spans[s]
        if at is None or at[0] != r:
            part.resource_spans.append(ResourceSpans(resource=whole.resource, schema_url=whole.schema_url))
        if at != (r, s):
            part.resource_spans[-1].scope_spans.append(ScopeSpans(scope=scope.scope, schema_url=scope.schema_url))
            at = (r, s)
        part.resource_spans[-1].scope_spans[-1].spans.append(scope.spans[n])
    return part


def spans_of(request: ExportTraceServiceRequest) -> Iterator[Span]:
    """Its spans, in order."""
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            yield from scope.spans


def _fault(span: Span) -> tuple[str, str] | None:
    trace_id, span_id = span.trace_id, span.span_id
    if len(trace_id) != 16:
        return "trace_id", f"has {len(trace_id)} bytes instead of 16"
    if trace_id == _NO_TRACE:
        return "trace_id", "is all zeros"
    if len(span_id) != 8:
        return "span_id", f"has {len(span_id)} bytes instead of 8"
    if span_id == _NO_SPAN:
        return "span_id", "is all zeros"
    if len(span.parent_span_id) not in (0, 8):
        return "parent_span_id", f"has {len(span.parent_span_id)} bytes instead of 8"
    if not span.start_time_unix_nano:
        return "start_time_unix_nano", "is missing"
    if len(span.name) > _MAX_NAME:
        return "name", f"has {len(span.name)} characters; at most {_MAX_NAME} are taken"
    return None
