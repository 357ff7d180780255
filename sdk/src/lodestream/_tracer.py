"""OpenTelemetry's tracing API: what instrumentation libraries see of us."""

from collections.abc import Iterator, Sequence

from opentelemetry import trace
from opentelemetry.context import Context, get_current
from opentelemetry.trace import Link, SpanKind
from opentelemetry.util._decorator import _agnosticcontextmanager
from opentelemetry.util.types import Attributes

from lodestream._guard import report
from lodestream._recorder import Recorder, Scope


class TracerProvider(trace.TracerProvider):
    """Tracers whose spans go where observations go."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> trace.Tracer:
        scope = Scope(
            str(instrumenting_module_name or ""),
            str(instrumenting_library_version or ""),
            str(schema_url or ""),
            self.recorder.frozen_attributes(attributes),
        )
        return Tracer(self, scope)


class Tracer(trace.Tracer):
    """Makes spans in the name of one instrumentation library."""

    def __init__(self, provider: TracerProvider, scope: Scope) -> None:
        self._provider, self._scope = provider, scope

    def start_span(  # noqa: PLR0917 - OpenTelemetry's signature
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: ARG002 - for `with start_span()`, whose __exit__ always does
        set_status_on_exception: bool = True,  # noqa: ARG002
    ) -> trace.Span:
        try:
            recorder = self._provider.recorder
            span = recorder.start(
                self._scope,
                str(name),
                get_current() if context is None else context,
                recorder.frozen_attributes(attributes) if attributes else {},
                kind=kind.value,
                start_ns=start_time,
            )
            for link in links or ():
                span.add_link(link.context, link.attributes)
            recorder.announce(span)
        except Exception as error:
            report("starting a span", error)
            return trace.INVALID_SPAN
        return span

    @_agnosticcontextmanager
    def start_as_current_span(  # noqa: PLR0917
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Iterator[trace.Span]:
        span = self.start_span(name, context, kind, attributes, links, start_time)
        with trace.use_span(
            span,
            end_on_exit=end_on_exit,
            record_exception=record_exception,
            set_status_on_exception=set_status_on_exception,
        ):
            yield span


def install(recorder: Recorder) -> None:
    """Have the process's tracers, those that were handed out already too, use this recorder.

    Beside somebody else's provider, which stays, spans still nest through the context.
    """
    current = trace.get_tracer_provider()
    if isinstance(current, TracerProvider):
        current.recorder = recorder
    elif isinstance(current, trace.ProxyTracerProvider):
        trace.set_tracer_provider(TracerProvider(recorder))
