"""What instrumentations, processors and exporters read of a span: the surface of opentelemetry-sdk's ReadableSpan.

The SDK does not have to be installed. Where a program has imported it, resources and scopes are of its types, because
exporters group by them; where not, nobody can ask for those, and ours have the same attributes.
"""

import datetime as dt
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from lodestream._wire.otlp import HAS_REMOTE, REMOTE, Event, scope_of
from lodestream._wire.otlp import Link as OtlpLink

LinkParts = tuple[SpanContext, Mapping[str, Any], int]
"""What is linked to, attributes, how many attributes were over the limit."""


def otlp_link(link: LinkParts) -> OtlpLink:
    """A link as it is written on the wire."""
    context, attributes, dropped = link
    flags = int(context.trace_flags) | HAS_REMOTE | (REMOTE if context.is_remote else 0)
    return context.trace_id, context.span_id, context.trace_state.to_header(), flags, attributes, dropped


def sdk_type(module: str, name: str) -> Any:
    """A type of opentelemetry-sdk, if the program has imported that part of it; else None."""
    return getattr(sys.modules.get(module), name, None)


def resource_as_sdk(resource: "Resource") -> Any:
    """Return a resource as the SDK's type, if the program has imported it."""
    kind = sdk_type("opentelemetry.sdk.resources", "Resource")
    return resource if kind is None else kind(dict(resource.attributes), resource.schema_url)


def _context_as_json(context: SpanContext) -> dict[str, str]:
    return {
        "trace_id": f"0x{context.trace_id:032x}",
        "span_id": f"0x{context.span_id:016x}",
        "trace_state": repr(context.trace_state),
    }


def _iso(nanoseconds: int) -> str:
    return dt.datetime.fromtimestamp(nanoseconds / 1e9, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True)
class Resource:
    """What the spans are of: a service, a process. As `opentelemetry.sdk.resources.Resource`."""

    attributes: Mapping[str, Any] = field(hash=False)
    schema_url: str = ""

    def to_json(self, indent: int | None = 4) -> str:
        return json.dumps({"attributes": dict(self.attributes), "schema_url": self.schema_url}, indent=indent)


@dataclass(frozen=True, slots=True)
class Scope:
    """Who makes the spans: an instrumentation library. As `opentelemetry.sdk.util.instrumentation`'s."""

    name: str
    version: str = ""
    schema_url: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def otlp(self) -> bytes:
        """The scope's field in a ScopeSpans."""
        return scope_of(self.name, self.version, self.attributes)

    def to_json(self, indent: int | None = 4) -> str:
        fields = {
            "name": self.name,
            "version": self.version,
            "schema_url": self.schema_url,
            "attributes": dict(self.attributes),
        }
        return json.dumps(fields, indent=indent)


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """An event of a span, like `opentelemetry.sdk.trace.Event`; `timestamp` is Unix time in nanoseconds."""

    name: str
    timestamp: int
    attributes: Mapping[str, Any]
    dropped_attributes: int = 0


class ReadableSpan:
    """Properties over what a span holds. All may be read at any time; what is given is a copy or cannot be changed."""

    _scope: Scope
    _trace_number: int
    _span_number: int
    _trace_state: TraceState | None
    _name: str
    _kind: int
    _parent_number: int
    _parent_flags: int
    """W3C's trace flags, and `REMOTE`."""
    _start_ns: int
    _end_ns: int
    _attributes: dict[str, Any]
    _events: Sequence[Event]
    _links: Sequence[LinkParts]
    _status: tuple[int, str]
    _dropped: tuple[int, int, int]

    def get_span_context(self) -> SpanContext:
        raise NotImplementedError

    @property
    def name(self) -> str:
        return self._name

    @property
    def context(self) -> SpanContext:
        return self.get_span_context()

    @property
    def kind(self) -> SpanKind:
        return SpanKind(self._kind)

    @property
    def parent(self) -> SpanContext | None:
        """None for a root."""
        if not self._parent_number:
            return None
        flags, remote = TraceFlags(self._parent_flags & 0xFF), bool(self._parent_flags & REMOTE)
        return SpanContext(self._trace_number, self._parent_number, remote, flags, self._trace_state)

    @property
    def start_time(self) -> int:
        """Unix time in nanoseconds."""
        return self._start_ns

    @property
    def end_time(self) -> int | None:
        """Unix time in nanoseconds; None while it runs."""
        return self._end_ns or None

    @property
    def attributes(self) -> Mapping[str, Any]:
        return MappingProxyType(self._attributes)

    @property
    def events(self) -> Sequence[SpanEvent]:
        return tuple(
            SpanEvent(name, time_ns, MappingProxyType(attributes), dropped)
            for name, time_ns, attributes, dropped in self._events
        )

    @property
    def links(self) -> Sequence[Link]:
        return tuple(Link(context, MappingProxyType(attributes)) for context, attributes, _ in self._links)

    @property
    def status(self) -> Status:
        code, description = self._status
        return Status(StatusCode(code), description or None)

    @property
    def dropped_attributes(self) -> int:
        return self._dropped[0]

    @property
    def dropped_events(self) -> int:
        return self._dropped[1]

    @property
    def dropped_links(self) -> int:
        return self._dropped[2]

    @property
    def resource(self) -> Any:
        """`opentelemetry.sdk.resources.Resource` where the program has imported it, else its like."""
        raise NotImplementedError

    @property
    def instrumentation_scope(self) -> Any:
        """`opentelemetry.sdk.util.instrumentation.InstrumentationScope` where it is imported, else its like."""
        kind = sdk_type("opentelemetry.sdk.util.instrumentation", "InstrumentationScope")
        scope = self._scope
        return scope if kind is None else kind(scope.name, scope.version, scope.schema_url, dict(scope.attributes))

    @property
    def instrumentation_info(self) -> Any:
        """Deprecated by OpenTelemetry for `instrumentation_scope`, which is what it gives."""
        return self.instrumentation_scope

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self._name!r}, context={self.context})"

    def to_json(self, indent: int | None = 4) -> str:
        """Return the span in the words of opentelemetry-sdk's ConsoleSpanExporter.

        Args:
            indent: Spaces of each level; None for one line.
        """
        status, parent = self.status, self.parent
        fields = {"status_code": status.status_code.name}
        if status.description:
            fields["description"] = status.description
        return json.dumps(
            {
                "name": self.name,
                "context": _context_as_json(self.context),
                "kind": str(self.kind),
                "parent_id": f"0x{parent.span_id:016x}" if parent else None,
                "start_time": _iso(self.start_time),
                "end_time": _iso(self.end_time) if self.end_time else None,
                "status": fields,
                "attributes": dict(self.attributes),
                "events": [
                    {"name": event.name, "timestamp": _iso(event.timestamp), "attributes": dict(event.attributes)}
                    for event in self.events
                ],
                "links": [
                    {"context": _context_as_json(link.context), "attributes": dict(link.attributes or {})}
                    for link in self.links
                ],
                "resource": json.loads(self.resource.to_json()),
            },
            indent=indent,
            default=str,
        )
