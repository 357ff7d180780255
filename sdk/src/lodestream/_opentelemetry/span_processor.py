"""For a program whose tracer provider is opentelemetry-sdk's: a span processor that puts its spans into our spool."""

import contextlib
import weakref
from collections.abc import Callable
from typing import Any, cast

from opentelemetry.context import Context, get_current
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanContext

from lodestream._diagnostics import never_raises
from lodestream._recording.clients import Client, client_for, client_named_by
from lodestream._recording.context import propagated
from lodestream._recording.processors import PARENT_LISTENERS
from lodestream._recording.readable import Scope
from lodestream._recording.span import Observation
from lodestream._settings import resource_attributes
from lodestream._wire.otlp import REMOTE, resource_of

_MAX_OPEN, _MAX_LEFT_OUT = 100_000, 10_000
_OUR_RESOURCE = ("lodestream.environment", "lodestream.release")
_LLM_SCOPES = (
    "agno", "ai.", "autogen", "haystack", "langsmith", "litellm", "llama_index", "openinference.", "openlit",
    "opentelemetry.instrumentation.anthropic", "opentelemetry.instrumentation.bedrock",
    "opentelemetry.instrumentation.cohere", "opentelemetry.instrumentation.crewai",
    "opentelemetry.instrumentation.google_g", "opentelemetry.instrumentation.groq",
    "opentelemetry.instrumentation.haystack", "opentelemetry.instrumentation.langchain",
    "opentelemetry.instrumentation.llamaindex", "opentelemetry.instrumentation.mcp",
    "opentelemetry.instrumentation.mistralai", "opentelemetry.instrumentation.ollama",
    "opentelemetry.instrumentation.openai", "opentelemetry.instrumentation.vertexai", "pydantic-ai", "strands", "vllm",
)  # fmt: skip
_LLM_ATTRIBUTES = ("gen_ai.", "lodestream.", "llm.", "mcp.", "openinference.", "traceloop.")
_automatic: "weakref.WeakKeyDictionary[Any, LodestreamSpanProcessor]" = weakref.WeakKeyDictionary()
"""The processors that were added to a provider without being asked for."""


def is_llm_span(span: ReadableSpan) -> bool:
    """Return whether a span is about a language model, an agent, a tool or retrieval: what is sent by default.

    It goes by the library that made it, or by attributes of OpenTelemetry's GenAI conventions, OpenInference, Traceloop
    and ours.

    Args:
        span: A span that ended.
    """
    scope = span.instrumentation_scope
    if scope is not None and scope.name.startswith(_LLM_SCOPES):
        return True
    return any(key.startswith(_LLM_ATTRIBUTES) for key in span.attributes or ())


def attach_to(provider: Any) -> None:
    """Add a processor to a provider, once, unless the program has made one itself."""
    if provider not in _automatic and not PARENT_LISTENERS:
        processor = LodestreamSpanProcessor()
        _automatic[provider] = processor
        provider.add_span_processor(processor)


class LodestreamSpanProcessor(SpanProcessor):
    """Sends spans of an opentelemetry-sdk provider to Lodestream, through the same spool as observations.

        provider.add_span_processor(LodestreamSpanProcessor())

    Args:
        client: Whose spans they are. Without it: the client that the context names, or the process's only one.
        should_export_span: Asked with each `ReadableSpan` that ended whether it is sent. Default: the client's
            `should_export_span`, else `is_llm_span`.

    No trace gets holes: the spans above one that is sent, and above observations, are sent as well; where a span above
    had ended and was left out, the next one above it that is sent takes its place as the parent. The mask, the limits,
    the sample rate and what `propagate_attributes` says apply as for observations. The program's own spans are not
    changed.
    """

    def __init__(
        self,
        client: Client | None = None,
        *,
        should_export_span: Callable[[ReadableSpan], bool] | None = None,
    ) -> None:
        self._client, self._should_export = client, should_export_span
        self._open: dict[int, _Open] = {}
        self._left_out: dict[int, int] = {}
        """The parents of spans that ended and were left out, by the spans' ids."""
        self._resources: dict[Any, bytes] = {}
        self._active = True
        PARENT_LISTENERS.append(self._need)
        for automatic in _automatic.values():
            automatic.shutdown()

    @never_raises(None)
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Remember a span that starts, whose it is and what is propagated to it.

        Args:
            span: The span.
            parent_context: The context it starts in. Default: the current one.
        """
        ids = span.get_span_context()
        if not self._active or isinstance(span, Observation) or not ids.trace_flags.sampled:
            return
        context = get_current() if parent_context is None else parent_context
        parent = span.parent.span_id if span.parent is not None and not span.parent.is_remote else 0
        above = self._open.get(parent)
        client = self._client or client_named_by(context) or (above.client if above else client_for(context))
        if not client._recorder.is_on or not client._recorder.samples(ids.trace_id):
            return
        self._open[ids.span_id] = _Open(parent, client, dict(client._recorder.propagated(propagated(context))))
        if len(self._open) > _MAX_OPEN:
            _drop_oldest(self._open)
        if self._wants(span, client):
            self._need(parent)

    @never_raises(None)
    def on_end(self, span: ReadableSpan) -> None:
        """Send a span that ended, or remember what its place in the trace was.

        Args:
            span: The span.
        """
        ids = span.get_span_context()
        if ids is None or (begun := self._open.pop(ids.span_id, None)) is None:
            return
        if begun.needed or self._wants(span, begun.client):
            parent = self._kept_parent(begun.parent)
            self._need(parent)
            self._send(span, begun, parent)
        else:
            self._left_out[ids.span_id] = begun.parent
            if len(self._left_out) > _MAX_LEFT_OUT:
                _drop_oldest(self._left_out)

    def shutdown(self) -> None:
        """Take no more; what was sent to the spool is delivered by the client."""
        self._active = False
        with contextlib.suppress(ValueError):
            PARENT_LISTENERS.remove(self._need)
        self._open.clear()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Deliver what has ended.

        Args:
            timeout_millis: Milliseconds to wait at most.

        Returns:
            False if some is left.
        """
        client = self._client or client_for(get_current())
        return not client.flush(timeout_millis / 1_000).pending

    def _wants(self, span: ReadableSpan, client: Client) -> bool:
        return bool((self._should_export or client.settings.should_export_span or is_llm_span)(span))

    def _need(self, span_id: int) -> None:
        """Something below this span is sent: it is too, and all above it."""
        span_id = self._kept_parent(span_id)
        while (begun := self._open.get(span_id)) is not None and not begun.needed:
            begun.needed = True
            span_id = self._kept_parent(begun.parent)

    def _kept_parent(self, span_id: int) -> int:
        """The span itself or, where it was left out, the nearest above it that was not."""
        while (above := self._left_out.get(span_id)) is not None:
            span_id = above
        return span_id

    def _send(self, span: ReadableSpan, begun: "_Open", parent: int) -> None:
        above = span.parent
        if not parent and above is not None and above.is_remote:
            parent = above.span_id
        ids = cast("SpanContext", span.get_span_context())
        sent = _Copy(
            begun.client._recorder,
            _scope_of(span),
            span.name,
            ids.trace_id,
            ids.span_id,
            parent,
            begun.propagated,
            recording=True,
            sampled=True,
            kind=span.kind.value,
            start_ns=span.start_time,
            parent_flags=0 if above is None else int(above.trace_flags) | (REMOTE if above.is_remote else 0),
            trace_state=ids.trace_state,
        )
        sent.set_attributes(span.attributes or {})
        for event in span.events:
            sent.add_event(event.name, event.attributes, event.timestamp)
        for link in span.links:
            sent.add_link(link.context, link.attributes)
        sent.set_status(span.status)
        sent.send(span, self._resource_of(span, begun.client))

    def _resource_of(self, span: ReadableSpan, client: Client) -> bytes:
        """The provider's resource, with what ours says of environment and release."""
        key = (span.resource, client.settings.environment, client.settings.release)
        if (encoded := self._resources.get(key)) is None:
            ours = {
                name: value for name, value in resource_attributes(client.settings).items() if name in _OUR_RESOURCE
            }
            encoded = self._resources[key] = resource_of({**span.resource.attributes, **ours})
        return encoded


class _Copy(Observation):
    """What is sent of another provider's span."""

    def send(self, span: ReadableSpan, resource: bytes) -> None:
        """Send the span as it ended, with the resource that it is of."""
        self._recording, self._end_ns, self._resource_otlp = False, span.end_time or span.start_time or 0, resource
        attributes, events, links = self._dropped
        self._dropped = (
            attributes + span.dropped_attributes, events + span.dropped_events, links + span.dropped_links
        )  # fmt: skip
        self._sink.emit(self)


class _Open:
    """A span that runs."""

    __slots__ = ("client", "needed", "parent", "propagated")

    def __init__(self, parent: int, client: Client, propagated: dict[str, Any]) -> None:
        self.parent, self.client, self.propagated = parent, client, propagated
        self.needed = False


def _scope_of(span: ReadableSpan) -> Scope:
    scope = span.instrumentation_scope
    return (
        Scope("")
        if scope is None
        else Scope(scope.name, scope.version or "", scope.schema_url or "", scope.attributes or {})
    )


def _drop_oldest(known: dict[int, Any]) -> None:
    with contextlib.suppress(RuntimeError, StopIteration, KeyError):  # another thread changes it at this moment
        del known[next(iter(known))]
