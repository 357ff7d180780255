"""An observation that ended as a span of opentelemetry-sdk. Imported only where the program has imported that SDK."""

from typing import Any, cast

from opentelemetry.sdk.trace import Event
from opentelemetry.sdk.trace import ReadableSpan as SdkReadableSpan

from lodestream._recording.readable import ReadableSpan


class EndedSpan(SdkReadableSpan):
    """For span processors and exporters that look at the type."""

    def __init__(self, span: ReadableSpan) -> None:
        super().__init__(
            name=span.name,
            context=span.context,
            parent=span.parent,
            resource=span.resource,
            attributes=dict(span.attributes),
            events=cast("tuple[Event, ...]", span.events),
            links=span.links,
            kind=span.kind,
            instrumentation_info=cast("Any", span.instrumentation_info),
            status=span.status,
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )
        self._dropped = (span.dropped_attributes, span.dropped_events, span.dropped_links)

    @property
    def dropped_attributes(self) -> int:
        return self._dropped[0]

    @property
    def dropped_events(self) -> int:
        return self._dropped[1]

    @property
    def dropped_links(self) -> int:
        return self._dropped[2]
