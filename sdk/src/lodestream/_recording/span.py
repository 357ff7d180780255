"""An observation: OpenTelemetry's span, and what it can be told about work with language models."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, Unpack

from lodestream_evals.lenient_json import to_text
from opentelemetry import trace
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags, TraceState

from lodestream._diagnostics import never_raises, report_internal_error, warn_once
from lodestream._recording.attributes import (
    LEVEL,
    MAX_METADATA,
    MAX_METADATA_CHARS,
    METADATA,
    RESERVED,
    STATUS_MESSAGE,
    Attributes,
    ObservationFields,
    ObservationType,
    Shown,
    attributes_of,
    exception_attributes,
    message_of,
    metadata_attributes,
    weight_of,
)
from lodestream._recording.context import Entered, enter, leave
from lodestream._recording.masking import Masking
from lodestream._recording.processors import EVERYWHERE, Processors
from lodestream._recording.readable import LinkParts, ReadableSpan, Scope, otlp_link
from lodestream._scores import ScoreFields, Target
from lodestream._settings import SpanLimits
from lodestream._wire.otlp import HAS_REMOTE, REMOTE, Event, span_of

_WEIGHT = 600  # bytes of a span without its texts, roughly
_NONE: tuple[Any, ...] = ()


class SpanOwner(Protocol):
    """What a span needs of the recorder that made it."""

    client: Any
    sink: Any
    closed: bool
    project: Any
    limits: SpanLimits
    masking: Masking | None
    shown: Shown
    listeners: dict[int, Callable[[Mapping[str, Any]], None]]
    processors: Processors

    @property
    def resource(self) -> Any: ...
    def frozen(self, value: Any, longest: int | None = None, /) -> Any: ...
    def bounded(
        self, attributes: Mapping[str, Any] | None, most: int, longest: int | None, /
    ) -> tuple[Attributes, int]: ...
    def propagated(self, told: Mapping[str, Any], /) -> Mapping[str, Any]: ...
    def observe(
        self, name: str | None, as_type: str, fields: Mapping[str, Any], *, parent: trace.Span | None = None
    ) -> "Observation": ...
    def observe_as_current(
        self, name: str | None, as_type: str, fields: Mapping[str, Any], *, parent: trace.Span | None = None
    ) -> "CurrentObservation": ...
    def score(
        self, target: Target, name: str, value: Any, fields: Mapping[str, Any], *, span: trace.Span | None = None
    ) -> str | None: ...
    def ended(self, span: "Observation", /) -> None: ...
    def tell_closed(self) -> None: ...


class Observation(ReadableSpan, trace.Span):
    """Ends once, by `end()` or as a context manager (which records an exception that leaves it); then it is on its way.

    Where tracing is off or the trace was not sampled it takes everything and keeps nothing. It is a span of
    OpenTelemetry's API and can be read like one of opentelemetry-sdk: `name`, `attributes`, `parent`, `status`, ….
    """

    _records_exceptions = _sets_status = True
    _metadata_left, _metadata_room = MAX_METADATA, MAX_METADATA_CHARS
    _run_id: Any = None
    """The innermost run of a framework (LangChain's, a UUID) that it is, or is within."""
    _resource_otlp: bytes | None = None
    """The resource it is of, encoded, where it is not its recorder's."""

    def __init__(  # noqa: PLR0917
        self,
        recorder: "SpanOwner",
        scope: Scope,
        name: str,
        trace_id: int,
        span_id: int,
        parent_id: int,
        attributes: Attributes,
        *,
        recording: bool,
        sampled: bool,
        kind: int = 0,
        start_ns: int | None = None,
        parent_flags: int = 0,
        trace_state: TraceState | None = None,
    ) -> None:
        self._recorder, self._scope, self._name = recorder, scope, name
        self._trace_number, self._span_number, self._parent_number = trace_id, span_id, parent_id
        self._attributes, self._recording, self._sampled, self._kept = attributes, recording, sampled, recording
        self._kind, self._parent_flags, self._trace_state = kind, parent_flags, trace_state
        self._sink = recorder.sink  # a fork changes the recorder's: what was open before belongs to the parent
        self._events: Sequence[Event] = _NONE
        self._links: Sequence[LinkParts] = _NONE
        self._status: tuple[int, str] = (0, "")
        self._dropped = (0, 0, 0)
        self._weight = _WEIGHT
        self._remote = False
        self._end_ns = 0
        self._started = 0 if start_ns else time.perf_counter_ns()
        self._start_ns = start_ns or time.time_ns()

    # --- What it is ---------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The span id, 16 hex digits."""
        return f"{self._span_number:016x}"

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return f"{self._trace_number:032x}"

    def get_span_context(self) -> SpanContext:
        flags = TraceFlags(TraceFlags.SAMPLED if self._sampled else TraceFlags.DEFAULT)
        return SpanContext(self._trace_number, self._span_number, self._remote, flags, self._trace_state)

    @property
    def resource(self) -> Any:
        """`opentelemetry.sdk.resources.Resource` where the program has imported it, else its like."""
        return self._recorder.resource

    def is_recording(self) -> bool:
        return self._recording

    def _as_otlp(self) -> bytes:
        """The OTLP Span; without an end while it runs."""
        flags = int(self._sampled) | HAS_REMOTE | (self._parent_flags & REMOTE)
        return span_of(
            self._trace_number,
            self._span_number,
            self._parent_number,
            self._trace_state.to_header() if self._trace_state else "",
            flags,
            self._name,
            self._kind + 1,  # OTLP counts from "unspecified"
            self._start_ns,
            self._end_ns,
            self._attributes,
            self._events,
            [otlp_link(link) for link in self._links],
            self._status,
            self._dropped,
        )

    def _snapshot(self) -> "Observation":
        """Return a copy of the span as it is now."""
        still = copy.copy(self)
        still._attributes = dict(self._attributes)
        return still

    # --- Observations -------------------------------------------------------------------------------------------------

    def update(self, *, name: str | None = None, **fields: Unpack[ObservationFields]) -> Self:
        """Add to what is known of the observation, until it ends. Never raises.

        Args:
            name: A new name.
            **fields: What is known of it: input and output (text, or anything that JSON can say), metadata (a mapping,
                whose entries are added), version, level ("DEBUG", "DEFAULT", "WARNING", "ERROR"), status_message,
                completion_start_time (when the first token came), model, model_parameters, usage_details (tokens by
                kind), cost_details (US dollars by kind), prompt. None leaves a field as it is.

        Returns:
            The observation itself.
        """
        if self._recording:
            try:
                if name is not None:
                    self._name = str(name)
                metadata = fields.pop("metadata", None)
                for key, value in attributes_of(fields, self._recorder.shown).items():
                    self._put(key, value)
                if metadata is not None:
                    self._put_metadata(metadata)
                if self._attributes.get(LEVEL) == "ERROR" and not self._status[0]:
                    self._status = (StatusCode.ERROR.value, self._attributes.get(STATUS_MESSAGE, ""))
            except Exception as error:
                report_internal_error("Observation.update", error)
        return self

    def start_observation(
        self, *, name: str | None = None, as_type: ObservationType = "span", **fields: Unpack[ObservationFields]
    ) -> "Observation":
        """Begin a child that does not become the current observation. It is yours to end.

        Args:
            name: Its name. Default: its type.
            as_type: "span", "generation", "embedding", "agent", "tool", "chain", "retriever", "evaluator", "guardrail"
                or "event".
            **fields: What is known already. See `update`.

        Returns:
            The child. Never raises.
        """
        return self._recorder.observe(name, as_type, fields, parent=self)

    def start_as_current_observation(
        self, *, name: str | None = None, as_type: ObservationType = "span", **fields: Unpack[ObservationFields]
    ) -> "CurrentObservation":
        """Begin a child for `with`: current within the block, and ended with it.

        Args:
            name: Its name. Default: its type.
            as_type: As for `start_observation`.
            **fields: What is known already. See `update`.

        Returns:
            A context manager that gives the child. Never raises.
        """
        return self._recorder.observe_as_current(name, as_type, fields, parent=self)

    def score(self, *, name: str, value: float | str | bool, **fields: Unpack[ScoreFields]) -> str | None:
        """Score the observation. Never raises.

        Args:
            name: What is scored, for example "helpfulness".
            value: A number, true or false, or a text, which is a category unless `data_type="TEXT"`.
            **fields: As for `Lodestream.create_score`.

        Returns:
            The score's id; None when it was not taken, which is logged, or the trace is not kept.
        """
        return self._score(Target(trace_id=self.trace_id, observation_id=self.id), name, value, fields)

    def score_trace(self, *, name: str, value: float | str | bool, **fields: Unpack[ScoreFields]) -> str | None:
        """Score the trace that the observation belongs to. Never raises.

        Args:
            name: What is scored.
            value: As for `score`.
            **fields: As for `Lodestream.create_score`.

        Returns:
            The score's id; None when it was not taken, which is logged, or the trace is not kept.
        """
        return self._score(Target(trace_id=self.trace_id), name, value, fields)

    def _score(self, target: Target, name: str, value: Any, fields: Mapping[str, Any]) -> str | None:
        if not (self._kept and self._span_number):
            return None
        return self._recorder.score(target, name, value, fields, span=self)

    def fail(self, error: BaseException) -> None:
        """Record what left the observed code: an exception is an error, being cancelled or interrupted a warning.

        Args:
            error: What was raised.
        """
        if isinstance(error, Exception):
            self.record_exception(error)
            self.update(level="ERROR", status_message=message_of(error) or type(error).__name__)
        elif not isinstance(error, GeneratorExit):
            self.update(level="WARNING", status_message=type(error).__name__)

    def _on_exception(self, *, record: bool, set_status: bool) -> None:
        """What `with` does when an exception leaves it: record the exception, set the status."""
        self._records_exceptions, self._sets_status = record, set_status

    @property
    def _is_masked(self) -> bool:
        """Whether content has to be shown to a mask before it is put."""
        return self._recorder.masking is not None

    def _put(self, key: str, value: Any) -> None:
        """Set an attribute whose value is as it should be. Reserved ones have room whatever others there are."""
        attributes, limits = self._attributes, self._recorder.limits
        if len(attributes) >= limits.max_span_attributes and key not in attributes and key not in RESERVED:
            self._dropped = (self._dropped[0] + 1, *self._dropped[1:])
            return
        if type(value) is str:
            if limits.max_span_attribute_length is not None:
                value = value[: limits.max_span_attribute_length]
            self._weight += len(value)
        elif not isinstance(value, bool | int | float):
            self._weight += weight_of(value)
        attributes[key] = value

    def _put_propagated(self, attributes: Mapping[str, Any]) -> None:
        """Set what `propagate_attributes` gives to this and to all observations below."""
        if self._recording:
            for key, value in self._recorder.propagated(attributes).items():
                self._put(key, value)

    def _put_metadata(self, metadata: Any) -> None:
        entries, dropped = metadata_attributes(METADATA, metadata, self._recorder.shown)
        for key, value in entries.items():
            before = self._attributes.get(key)
            more = len(value) - len(before) if before is not None else len(value)
            if (before is None and self._metadata_left <= 0) or more > self._metadata_room:
                dropped += 1
                continue
            self._metadata_left -= before is None
            self._metadata_room -= more
            self._put(key, value)
        if dropped:
            self._dropped = (self._dropped[0] + dropped, *self._dropped[1:])
            most = f"{MAX_METADATA} entries and {MAX_METADATA_CHARS} characters"
            warn_once(
                "metadata", f"{dropped} metadata entries of {self._name!r} were dropped: an observation holds {most}"
            )

    # --- OpenTelemetry ------------------------------------------------------------------------------------------------

    def end(self, end_time: int | None = None) -> None:
        if not self._recording:
            return
        self._recording = False
        if end_time is not None:
            self._end_ns = end_time
        elif self._started:  # a clock that is set back makes no negative durations
            self._end_ns = self._start_ns + time.perf_counter_ns() - self._started
        else:
            self._end_ns = time.time_ns()
        try:
            if self._recorder.closed:
                self._recorder.tell_closed()
            self._sink.emit(self)
            if (listener := self._recorder.listeners.get(self._trace_number)) is not None:
                listener(self._attributes)
            if self._recorder.processors.added or EVERYWHERE.added:
                self._recorder.ended(self)
        except Exception as error:
            report_internal_error("ending a span", error)

    def _end_at_start(self) -> None:
        """End the span at the time at which it began."""
        self.end(self._start_ns)

    @never_raises(None)
    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        recorder = self._recorder
        if self._recording and recorder.masking is not None:
            attributes = recorder.masking.attributes(attributes)
        longest = recorder.limits.max_span_attribute_length
        if self._recording:
            for key, value in attributes.items():
                if value is not None:
                    self._put(str(key), recorder.frozen(value, longest))

    @never_raises(None)
    def set_attribute(self, key: str, value: Any) -> None:
        recorder = self._recorder
        if recorder.masking is not None:
            self.set_attributes({key: value})
        elif self._recording and value is not None:
            self._put(str(key), recorder.frozen(value, recorder.limits.max_span_attribute_length))

    @never_raises(None)
    def add_event(self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None) -> None:
        if not self._recording:
            return
        limits = self._recorder.limits
        if len(self._events) >= limits.max_events:
            self._dropped = (self._dropped[0], self._dropped[1] + 1, self._dropped[2])
            return
        kept, dropped = self._recorder.bounded(attributes, limits.max_event_attributes, limits.max_attribute_length)
        self._weight += 50 + sum(len(value) for value in kept.values() if type(value) is str)
        self._events = [*self._events, (str(name), timestamp or time.time_ns(), kept, dropped)]

    @never_raises(None)
    def add_link(self, context: SpanContext, attributes: Mapping[str, Any] | None = None) -> None:
        if not self._recording or not (context.is_valid or attributes or context.trace_state):
            return
        limits = self._recorder.limits
        if len(self._links) >= limits.max_links:
            self._dropped = (*self._dropped[:2], self._dropped[2] + 1)
            return
        kept, dropped = self._recorder.bounded(attributes, limits.max_link_attributes, limits.max_attribute_length)
        self._links = [*self._links, (context, kept, dropped)]

    @never_raises(None)
    def update_name(self, name: str) -> None:
        if self._recording:
            self._name = str(name)

    @never_raises(None)
    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set the status. OK is final, and UNSET changes nothing (OpenTelemetry's rule).

        Args:
            status: The status, or its code.
            description: Why, where the code is ERROR.
        """
        code = status.status_code if isinstance(status, Status) else status
        message = status.description if isinstance(status, Status) else description
        if self._recording and code is not StatusCode.UNSET and self._status[0] != StatusCode.OK.value:
            text = (
                to_text(self._recorder.shown(message, "status_message")) if message and code is StatusCode.ERROR else ""
            )
            self._status = (code.value, text)

    @never_raises(None)
    def record_exception(
        self,
        exception: BaseException,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        described = {**exception_attributes(exception, escaped=escaped), **(attributes or {})}
        self.add_event("exception", described, timestamp)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if error is not None and self._recording:
            self._fail_as_configured(error)
        self.end()

    def _fail_as_configured(self, error: BaseException) -> None:
        """Record an error as opentelemetry-sdk does for spans of instrumentation libraries, and by `fail` for ours."""
        if self._scope.name == "lodestream":
            self.fail(error)
            return
        if self._records_exceptions:
            self.record_exception(error, escaped=True)
        if self._sets_status:
            self.set_status(StatusCode.ERROR, f"{type(error).__name__}: {message_of(error)}")


class CurrentObservation:
    """A context manager: the observation begins and ends with the block, and is current in it."""

    def __init__(
        self,
        begin: Callable[[], Observation],
        *,
        end_on_exit: bool,
    ) -> None:
        self._begin, self._end_on_exit = begin, end_on_exit
        self._entered: list[tuple[Observation, Entered]] = []  # the innermost last, if it is entered more than once

    def __enter__(self) -> Observation:
        span = self._begin()
        self._entered.append((span, enter(trace.set_span_in_context(span))))
        return span

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if not self._entered:
            return
        span, entered = self._entered.pop()
        leave(entered)
        if error is not None:
            span.fail(error)
        if self._end_on_exit:
            span.end()
