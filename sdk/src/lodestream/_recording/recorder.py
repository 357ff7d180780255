"""Where observations begin: which trace they belong to, whether it is kept, and what they are told from the start."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from lodestream_evals.lenient_json import to_text
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import TraceState

from lodestream._diagnostics import report_internal_error, warn_once
from lodestream._ids import new_span_id, new_trace_id, parse_id
from lodestream._recording.attributes import AS_ROOT, ENVIRONMENT, TYPE, Attributes, Shown, frozen, known_type
from lodestream._recording.context import current_context, propagated
from lodestream._recording.masking import Masking, unmasked
from lodestream._recording.processors import EVERYWHERE, PARENT_LISTENERS, Processors
from lodestream._recording.readable import Resource, Scope, resource_as_sdk
from lodestream._recording.span import CurrentObservation, Observation
from lodestream._scores import Target, score_of
from lodestream._settings import Settings, resource_attributes
from lodestream._version import __version__
from lodestream._wire.otlp import REMOTE
from lodestream._wire.payloads import EncodedEvent

Where = tuple[str, str | None]
"""Trace id and parent span id in hex; without a parent, a root of that trace."""


class Sink(Protocol):
    """Takes spans that ended, and events. Neither blocks nor raises."""

    def emit(self, span: Observation | EncodedEvent, /) -> None: ...


class Owner(Protocol):
    """The client of a recorder."""

    settings: Settings

    def _find_keys(self) -> bool: ...


OURS = Scope("lodestream", __version__)


class Recorder:
    """Makes observations; `sink` is where they go when they end."""

    def __init__(self, settings: Settings, sink: Sink, client: Owner | None = None) -> None:
        self.client, self.closed = client, False
        self.processors = Processors()
        self.listeners: dict[int, Callable[[Mapping[str, Any]], None]] = {}
        """What is called with the attributes of each observation of a trace that ends, by the trace's id."""
        self.begin(settings, sink)

    def begin(self, settings: Settings, sink: Sink) -> None:
        """From now on with these settings, and to this sink."""
        self.sink = sink
        self.enabled, self.project = settings.tracing_enabled, settings.project
        self.masking = Masking(settings.mask) if settings.mask is not None else None
        self.shown: Shown = self.masking.value if self.masking is not None else unmasked
        """What may be kept of the value of a field."""
        self._propagated: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {})
        self._below = int(settings.sample_rate * (1 << 64))
        self._follows_parent = settings.parent_based
        self.limits = settings.span_limits
        self._resource = Resource(resource_attributes(settings))
        self._emit_starts, self._environment = settings.emit_starts, settings.environment

    def close(self) -> None:
        """Refuse from now on, aloud."""
        self.closed, self.enabled = True, False

    @property
    def is_on(self) -> bool:
        """Whether anything is recorded. When it is for want of keys that not, they are looked for."""
        if self.closed:
            self.tell_closed()
        client = self.client
        return self.enabled or (client is not None and client._find_keys())

    def tell_closed(self) -> None:
        """Log that it was shut down and that something came too late."""
        key = self.project[1] if self.project and self.client and self.client.settings.public_key else ""
        warn_once(f"shut down {key}", f"the client {key!r} was shut down: what it is told since is not recorded")

    def propagated(self, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
        """What may be kept of what `propagate_attributes` was given; the last answer is remembered."""
        if self.masking is None:
            return attributes
        before, kept = self._propagated
        if before is not attributes:
            kept = self.masking.propagated(attributes)
            self._propagated = (attributes, kept)
        return kept

    def kept_trace_id(self, trace_id: int) -> int:
        """Map a trace id to one that our sampler keeps, the same always to the same. A rate of 0 keeps none."""
        low = trace_id & 0xFFFF_FFFF_FFFF_FFFF
        return trace_id - low + (low * self._below >> 64)

    @property
    def resource(self) -> Any:
        """The resource of all its spans; `opentelemetry.sdk.resources.Resource` where the program has imported it."""
        return resource_as_sdk(self._resource)

    @staticmethod
    def frozen(value: Any, longest: int | None = None) -> Any:
        """The value of an attribute as it is now, texts cut to `longest` characters."""
        return frozen(value) if longest is None else frozen(value, longest)

    def bounded(self, attributes: Mapping[str, Any] | None, most: int, longest: int | None) -> tuple[Attributes, int]:
        """Attributes as they are now, and how many were over the limit. Values that are None are left out."""
        if attributes and self.masking is not None:
            attributes = self.masking.attributes(attributes)
        kept: Attributes = {}
        dropped = 0
        for key, value in (attributes or {}).items():
            if value is None:
                continue
            if len(kept) >= most:
                dropped += 1
            else:
                kept[str(key)] = self.frozen(value, longest)
        return kept, dropped

    def ended(self, span: Observation) -> None:
        """Call the span processors that were added, with opentelemetry-sdk's type of span where there is that type."""
        readable: Any = span
        if "opentelemetry.sdk.trace" in sys.modules:
            from lodestream._recording.ended_span import EndedSpan

            readable = EndedSpan(span)
        self.processors.on_end(readable)
        EVERYWHERE.on_end(readable)

    def start(
        self,
        scope: Scope,
        name: str,
        context: Context,
        attributes: Attributes,
        *,
        kind: int = 0,
        start_ns: int | None = None,
        span_id: int | None = None,
    ) -> Observation:
        """A child of the context's span; a root when there is none."""
        parent = trace.get_current_span(context)
        parent_id, flags, remote, state = 0, 0, False, None
        if type(parent) is Observation and parent._trace_number:
            trace_id, parent_id, sampled, remote, state = (
                parent._trace_number, parent._span_number, parent._sampled, parent._remote, parent._trace_state
            )  # fmt: skip
            kept = parent._kept
            if parent._recorder is not self and parent._recorder.project != self.project:
                parent_id = 0  # what is above is in another project: a root here, of the same trace
        elif (ids := parent.get_span_context()).is_valid:
            trace_id, parent_id, sampled, remote, state = (
                ids.trace_id, ids.span_id, ids.trace_flags.sampled, ids.is_remote, ids.trace_state
            )  # fmt: skip
            kept = sampled and (remote or self.samples(trace_id))  # another provider's sampler is not asked for ours
        else:
            trace_id = new_trace_id()
            sampled = kept = self.samples(trace_id)
        if parent_id:
            flags = int(sampled) | (REMOTE if remote else 0)
            if not self._follows_parent:
                sampled = kept = self.samples(trace_id)
        if not (self.enabled or self.is_on):
            return self._passing(scope, name, trace_id if parent_id else 0, parent_id, sampled=sampled, state=state)
        if kept and (inherited := propagated(context)):
            attributes = {**self.propagated(inherited), **attributes}
        if kept and PARENT_LISTENERS and parent_id:
            for listener in PARENT_LISTENERS:
                listener(parent_id)
        span = Observation(
            self, scope, name, trace_id, span_id or new_span_id(), parent_id, attributes,
            recording=kept, sampled=sampled, kind=kind, start_ns=start_ns, parent_flags=flags, trace_state=state,
        )  # fmt: skip
        if type(parent) is Observation and parent._run_id is not None:
            span._run_id = parent._run_id
        return span

    def observe(
        self,
        name: str | None,
        as_type: str,
        fields: Mapping[str, Any],
        *,
        parent: trace.Span | None = None,
        where: Where | None = None,
        context: Context | None = None,
        start_ns: int | None = None,
        span_id: int | None = None,
    ) -> Observation:
        """An observation of ours: a child of `parent`, of the ids in `where`, or of what is current (in `context`)."""
        try:
            if context is None:
                context = current_context()
            attributes: Attributes = {TYPE: known_type(as_type)}
            if parent is not None:
                context = trace.set_span_in_context(parent, context)
            if where is not None and (given := _given(*where)) is not None:
                attributes[AS_ROOT] = True
                context = trace.set_span_in_context(self._placed(*given), context)
            span = self.start(OURS, str(name or as_type), context, attributes, start_ns=start_ns, span_id=span_id)
            if fields:
                span.update(**fields)
            self.announce(span, context)
        except Exception as error:
            report_internal_error("starting an observation", error)
            return self._passing(OURS, str(name), 0, 0, sampled=False, state=None)
        return span

    def score(
        self, target: Target, name: str, value: Any, fields: Mapping[str, Any], *, span: trace.Span | None = None
    ) -> str | None:
        """Send a score; gives its id, None when it was not taken: it makes no sense, or its trace is not kept.

        Without an environment of its own it has that of the span, else what is propagated, else the client's.
        """
        try:
            if not (self.enabled or self.is_on) or (
                target.trace_id and not self.samples(parse_id(target.trace_id, 32))
            ):
                return None
            given = {key: value for key, value in fields.items() if value is not None}
            if self.masking is not None:
                for part in ("comment", "metadata"):
                    if part in given:
                        given[part] = self.shown(given[part], part)
                if target.session_id:  # as that of observations
                    target = replace(target, session_id=to_text(self.shown(target.session_id, "session_id")))
                if given.get("data_type") == "TEXT":
                    value = self.shown(value, "value")
            if "environment" not in given:
                given["environment"] = self._environment_of(span or trace.get_current_span(current_context()))
            score = score_of(target, name, value, given)
            self.sink.emit(score)
        except (ValueError, TypeError, OverflowError) as error:
            warn_once(f"score {name}", f"the score {name!r} was not taken: {error}")
            return None
        except Exception as error:
            report_internal_error("scoring", error)
            return None
        return score.score_id

    def _environment_of(self, span: trace.Span) -> str:
        attributes = span.attributes if isinstance(span, Observation) else {}
        return str(attributes.get(ENVIRONMENT) or propagated(current_context()).get(ENVIRONMENT) or self._environment)

    def announce(self, span: Observation, context: Context) -> None:
        """Tell that it began: the span processors that were added, and the server where that is wanted."""
        if (self.processors.added or EVERYWHERE.added) and span.is_recording():
            self.processors.on_start(span, context)
            EVERYWHERE.on_start(span, context)
        if self._emit_starts and span.is_recording():
            self.sink.emit(span._snapshot())

    def observe_as_current(
        self,
        name: str | None,
        as_type: str,
        fields: Mapping[str, Any],
        *,
        parent: trace.Span | None = None,
        where: Where | None = None,
        end_on_exit: bool = True,
    ) -> CurrentObservation:
        """Begin an observation that is current within a block."""
        begin = partial(self.observe, name, as_type, fields, parent=parent, where=where)
        return CurrentObservation(begin, end_on_exit=end_on_exit)

    def current(self, span: Observation) -> CurrentObservation:
        """One that has begun, current within a block, and ended with it."""
        return CurrentObservation(lambda: span, end_on_exit=True)

    def _placed(self, trace_id: int, parent_id: int) -> Observation:
        """Stands for a span elsewhere; with parent id 0 only for its trace."""
        span = self._passing(OURS, "", trace_id, parent_id, sampled=self.samples(trace_id), state=None)
        span._remote = True
        return span

    def _passing(
        self, scope: Scope, name: str, trace_id: int, span_id: int, *, sampled: bool, state: TraceState | None
    ) -> Observation:
        """One that keeps nothing and is, for what is below it, the span it would have been a child of."""
        span = Observation(
            self, scope, name, trace_id, span_id, 0, {}, recording=False, sampled=sampled, trace_state=state
        )  # fmt: skip
        span._kept = sampled
        return span

    def samples(self, trace_id: int) -> bool:
        """Whether a trace is kept: by its id's last 8 bytes, like OpenTelemetry's samplers; all services agree."""
        return trace_id & 0xFFFF_FFFF_FFFF_FFFF < self._below


def _given(trace_id: str, parent_id: str | None) -> tuple[int, int] | None:
    """Ids that a caller gave; None, and that is told, when they are none."""
    try:
        return parse_id(trace_id, 32), parse_id(parent_id, 16) if parent_id is not None else 0
    except ValueError as error:
        warn_once("given ids", f"{error}; the observation goes where it would have gone without")
        return None
