"""OpenTelemetry's tracing API: the tracer provider that instrumentation libraries see, and its part in the process."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind
from opentelemetry.util._decorator import _agnosticcontextmanager
from opentelemetry.util._once import Once
from opentelemetry.util.types import Attributes

from lodestream._diagnostics import log, never_raises, report_internal_error
from lodestream._recording.clients import Client, client_for, clients, current_client
from lodestream._recording.context import current_context
from lodestream._recording.processors import EVERYWHERE, Processors, SpanProcessor
from lodestream._recording.readable import Scope, sdk_type
from lodestream._recording.recorder import Recorder
from lodestream._settings import SpanLimits


class TracerProvider(trace.TracerProvider):
    """Tracers whose spans go where observations go.

    It has what programs use of opentelemetry-sdk's provider: span processors, `force_flush`, `shutdown`, `resource`,
    `sampler`, `span_limits`. Processors get observations and the spans of instrumentation libraries alike.
    """

    _successor: trace.TracerProvider | None = None
    """The provider that the program set in its place: it makes the spans of tracers that were handed out before."""

    def __init__(self, client: Client) -> None:
        self._own_client = client

    @property
    def _client(self) -> Client:
        """The client whose spans it makes."""
        return self._own_client

    def _client_in(self, context: Context) -> Client:  # noqa: ARG002 - the process's provider looks at it
        """Return the client whose spans it makes in a context."""
        return self._own_client

    @property
    def _recorder(self) -> Recorder:
        return self._client._recorder

    @property
    def _processors(self) -> Processors:
        return self._recorder.processors

    @property
    def resource(self) -> Any:
        """`opentelemetry.sdk.resources.Resource` where the program has imported it, else an object like it."""
        return self._recorder.resource

    @property
    def span_limits(self) -> SpanLimits:
        """What one span holds; see the OTEL_SPAN_*_LIMIT variables."""
        return self._recorder.limits

    @property
    def sampler(self) -> Any:
        """The decision as a sampler of opentelemetry-sdk; None where the program has not imported that SDK."""
        ratio = sdk_type("opentelemetry.sdk.trace.sampling", "TraceIdRatioBased")
        if ratio is None:
            return None
        settings = self._client.settings
        sampler = ratio(settings.sample_rate)
        return (
            sdk_type("opentelemetry.sdk.trace.sampling", "ParentBased")(sampler) if settings.parent_based else sampler
        )

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Call a processor, made for opentelemetry-sdk, for each span that starts from now on.

        At the start it is given the observation, at the end a `ReadableSpan`, masked as for our server. What it raises
        is logged. It is shut down by `shutdown`, or with the process.
        """
        self._processors.add(span_processor)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Deliver what has ended, here and by the processors, within so many milliseconds; False if some is left."""
        end, pending = time.monotonic() + timeout_millis / 1_000, 0
        for client in self._clients():
            pending += client.flush(max(end - time.monotonic(), 0)).pending
        return self._processors.force_flush(max(int((end - time.monotonic()) * 1_000), 1)) and not pending

    def shutdown(self) -> None:
        """Deliver what can be, shut the processors down, and record nothing from then on."""
        self._processors.shutdown()
        for client in self._clients():
            client.shutdown()

    def _clients(self) -> Sequence[Client]:
        return [self._own_client]

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> trace.Tracer:
        limits = self._recorder.limits
        scope = Scope(
            str(instrumenting_module_name or ""),
            str(instrumenting_library_version or ""),
            str(schema_url or ""),
            self._recorder.bounded(attributes, limits.max_span_attributes, limits.max_attribute_length)[0],
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
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> trace.Span:
        if (successor := self._provider._successor) is not None:
            tracer = self._tracer_of(successor)
            return tracer.start_span(
                name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
            )
        try:
            context = current_context() if context is None else context
            recorder = self._provider._client_in(context)._recorder
            span = recorder.start(
                self._scope,
                str(name),
                context,
                {},
                kind=kind.value,
                start_ns=start_time,
            )
            if span.is_recording():
                if attributes:
                    span.set_attributes(attributes)
                for link in links or ():
                    span.add_link(link.context, link.attributes)
                if not (record_exception and set_status_on_exception):
                    span._on_exception(record=record_exception, set_status=set_status_on_exception)
                recorder.announce(span, context)
        except Exception as error:
            report_internal_error("starting a span", error)
            return trace.INVALID_SPAN
        return span

    def _tracer_of(self, provider: trace.TracerProvider) -> trace.Tracer:
        scope = self._scope
        return provider.get_tracer(scope.name, scope.version, scope.schema_url, scope.attributes)

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


class ProcessTracerProvider(TracerProvider):
    """The process's: its spans are those of the client that the context names, or of the only one."""

    def __init__(self) -> None:
        """Make the process's provider: whose a span is, is decided for each."""
        self._successor = None

    @property
    def _client(self) -> Client:
        return current_client()

    def _client_in(self, context: Context) -> Client:
        return client_for(context)

    @property
    def _processors(self) -> Processors:
        return EVERYWHERE

    def _clients(self) -> Sequence[Client]:
        return clients()


# --- The tracer provider of the process -------------------------------------------------------------------------------
# The part we take in what the whole process traces, beside whatever tracer provider the program has or sets later.


@never_raises(None)
def take_part() -> None:
    """Be the process's tracer provider where there is none; where there is one, get its spans by a span processor.

    Ours stands in only until the program sets its own: `set_tracer_provider` then goes through as if there were none.
    """
    current = trace.get_tracer_provider()
    if isinstance(current, trace.ProxyTracerProvider):
        trace.set_tracer_provider(ProcessTracerProvider())
        _let_another_be_set()
    else:
        _attach_to(current)


def _let_another_be_set() -> None:
    """OpenTelemetry lets a provider be set once. Ours, which nobody asked for, is not to be the one."""
    if type(getattr(trace, "_TRACER_PROVIDER_SET_ONCE", None)) is Once:
        trace._TRACER_PROVIDER_SET_ONCE = _SetOnce()
    else:
        log.debug("with this version of opentelemetry-api no other tracer provider can be set after ours")


class _SetOnce(Once):
    """Has ours step back when another provider is set."""

    def do_once(self, func: Callable[[], None]) -> bool:
        ours = trace.get_tracer_provider()
        done = super().do_once(func)
        if done and isinstance(ours, ProcessTracerProvider):
            _step_back(ours)
        return done


@never_raises(None)
def _step_back(ours: ProcessTracerProvider) -> None:
    """Tracers that we handed out make their spans by the program's own provider from now on."""
    theirs = trace.get_tracer_provider()
    if theirs is not ours:
        ours._successor = theirs
        _attach_to(theirs)


def _attach_to(provider: Any) -> None:
    if isinstance(provider, TracerProvider) or not hasattr(provider, "add_span_processor"):
        return
    from lodestream._opentelemetry.span_processor import (
        attach_to,  # and opentelemetry-sdk, which is loaded where there is a provider
    )

    attach_to(provider)
