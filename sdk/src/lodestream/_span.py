"""An observation: OpenTelemetry's span, and what it can be told about work with language models."""

import copy
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from opentelemetry import trace
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags, TraceState

from lodestream._encode import MAX_CHARS
from lodestream._fields import LEVEL, STATUS_MESSAGE, Attributes, ObservationFields, ObservationType, attributes_of
from lodestream._guard import guarded, report
from lodestream._otlp import Event, Link, span_of
from lodestream._score import ScoreFields, Target

if TYPE_CHECKING:
    from lodestream._recorder import CurrentObservation, Recorder, Scope

MAX_ATTRIBUTES, MAX_EVENTS, MAX_LINKS = 1_000, 1_000, 1_000
"""Of one span; what is told beyond is counted in it."""
_WEIGHT = 600  # bytes of a span without its texts, roughly
_MAX_TRACEBACK = 16_000
_MAX_MESSAGE = 2_000
_NONE: tuple[Any, ...] = ()
_HAS_REMOTE, _REMOTE = 0x100, 0x200  # flags of an OTLP span: whether its parent is in another process is known; it is


class Observation(trace.Span):
    """Ends once, by `end()` or as a context manager (which records an exception that leaves it); then it is on its way.

    Where tracing is off or the trace was not sampled it takes everything and keeps nothing.
    """

    def __init__(  # noqa: PLR0917
        self,
        recorder: "Recorder",
        scope: "Scope",
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
        remote_parent: bool = False,
        trace_state: TraceState | None = None,
    ) -> None:
        self._recorder, self.scope, self._name = recorder, scope, name
        self.trace_number, self.span_number, self._parent_number = trace_id, span_id, parent_id
        self._attributes, self._recording, self.sampled = attributes, recording, sampled
        self._kind, self._remote_parent, self.trace_state = kind, remote_parent, trace_state
        self._sink = recorder.sink  # a fork changes the recorder's: what was open before belongs to the parent
        self._events: Sequence[Event] = _NONE
        self._links: Sequence[Link] = _NONE
        self._status: tuple[int, str] = (0, "")
        self._dropped = (0, 0, 0)
        self.weight = _WEIGHT
        self.remote = False
        self._end_ns = 0
        self._started = 0 if start_ns else time.perf_counter_ns()
        self._start_ns = start_ns or time.time_ns()

    # --- What it is ---------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The span id, 16 hex digits."""
        return f"{self.span_number:016x}"

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return f"{self.trace_number:032x}"

    def get_span_context(self) -> SpanContext:
        flags = TraceFlags(TraceFlags.SAMPLED if self.sampled else TraceFlags.DEFAULT)
        return SpanContext(self.trace_number, self.span_number, self.remote, flags, self.trace_state)

    def is_recording(self) -> bool:
        return self._recording

    def as_otlp(self) -> bytes:
        """The OTLP Span; without an end while it runs."""
        flags = int(self.sampled) | _HAS_REMOTE | (_REMOTE if self._remote_parent else 0)
        return span_of(
            self.trace_number,
            self.span_number,
            self._parent_number,
            self.trace_state.to_header() if self.trace_state else "",
            flags,
            self._name,
            self._kind + 1,  # OTLP counts from "unspecified"
            self._start_ns,
            self._end_ns,
            self._attributes,
            self._events,
            self._links,
            self._status,
            self._dropped,
        )

    def snapshot(self) -> "Observation":
        """As it is now."""
        still = copy.copy(self)
        still._attributes = dict(self._attributes)  # noqa: SLF001 - of the same class
        return still

    # --- Observations -------------------------------------------------------------------------------------------------

    def update(self, *, name: str | None = None, **fields: Unpack[ObservationFields]) -> Self:
        """Tell more of it, until it ends."""
        if self._recording:
            try:
                if name is not None:
                    self._name = str(name)
                for key, value in attributes_of(fields, self._recorder.text).items():
                    self.put(key, value)
                if self._attributes.get(LEVEL) == "ERROR" and not self._status[0]:
                    self._status = (StatusCode.ERROR.value, self._attributes.get(STATUS_MESSAGE, ""))
            except Exception as error:
                report("Observation.update", error)
        return self

    def start_observation(
        self, *, name: str | None = None, as_type: ObservationType = "span", **fields: Unpack[ObservationFields]
    ) -> "Observation":
        """A child. It is yours to end."""
        return self._recorder.observe(name, as_type, fields, parent=self)

    def start_as_current_observation(
        self, *, name: str | None = None, as_type: ObservationType = "span", **fields: Unpack[ObservationFields]
    ) -> "CurrentObservation":
        """A child that is current within the block, and ends with it."""
        return self._recorder.observe_as_current(name, as_type, fields, parent=self)

    def score(self, *, name: str, value: float | str | bool, **fields: Unpack[ScoreFields]) -> str | None:
        """Judge it; gives the score's id, None when it was not taken, which is told."""
        return self._score(Target(trace_id=self.trace_id, observation_id=self.id), name, value, fields)

    def score_trace(self, *, name: str, value: float | str | bool, **fields: Unpack[ScoreFields]) -> str | None:
        """Judge the trace it belongs to."""
        return self._score(Target(trace_id=self.trace_id), name, value, fields)

    def _score(self, target: Target, name: str, value: Any, fields: Mapping[str, Any]) -> str | None:
        return self._recorder.score(target, name, value, fields) if self.sampled and self.span_number else None

    def fail(self, error: BaseException) -> None:
        """Record what left the observed code: an exception is an error, being cancelled or interrupted is not."""
        if isinstance(error, Exception):
            self.record_exception(error)
            self.update(level="ERROR", status_message=_message_of(error) or type(error).__name__)
        elif not isinstance(error, GeneratorExit):
            self.update(level="WARNING", status_message=type(error).__name__)

    def put(self, key: str, value: Any) -> None:
        """Set an attribute whose value is as it should be."""
        attributes = self._attributes
        if len(attributes) >= MAX_ATTRIBUTES and key not in attributes:
            self._dropped = (self._dropped[0] + 1, *self._dropped[1:])
            return
        if type(value) is str:
            self.weight += len(value)
        elif not isinstance(value, bool | int | float):
            self.weight += _weight_of(value)
        attributes[key] = value

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
            self._sink.emit(self)
            if (told := self._recorder.listeners.get(self.trace_number)) is not None:
                told(self._attributes)
        except Exception as error:
            report("ending a span", error)

    def end_at_start(self) -> None:
        """It took no time."""
        self.end(self._start_ns)

    @guarded(None)
    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        for key, value in attributes.items():
            self.set_attribute(key, value)

    @guarded(None)
    def set_attribute(self, key: str, value: Any) -> None:
        if self._recording and value is not None:
            self.put(str(key), self._recorder.frozen(value))

    @guarded(None)
    def add_event(self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None) -> None:
        if not self._recording:
            return
        if len(self._events) >= MAX_EVENTS:
            self._dropped = (self._dropped[0], self._dropped[1] + 1, self._dropped[2])
            return
        told = self._recorder.frozen_attributes(attributes)
        self.weight += 50 + sum(len(value) for value in told.values() if type(value) is str)
        self._events = [*self._events, (str(name), timestamp or time.time_ns(), told)]

    @guarded(None)
    def add_link(self, context: SpanContext, attributes: Mapping[str, Any] | None = None) -> None:
        if not self._recording:
            return
        if len(self._links) >= MAX_LINKS:
            self._dropped = (*self._dropped[:2], self._dropped[2] + 1)
            return
        told = self._recorder.frozen_attributes(attributes)
        link = (context.trace_id, context.span_id, context.trace_state.to_header(), int(context.trace_flags), told)
        self._links = [*self._links, link]

    @guarded(None)
    def update_name(self, name: str) -> None:
        if self._recording:
            self._name = str(name)

    @guarded(None)
    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """OK is final; UNSET changes nothing (OpenTelemetry's rule)."""
        code = status.status_code if isinstance(status, Status) else status
        message = status.description if isinstance(status, Status) else description
        if self._recording and code is not StatusCode.UNSET and self._status[0] != StatusCode.OK.value:
            text = str(self._recorder.frozen(message or "")) if code is StatusCode.ERROR else ""
            self._status = (code.value, text)

    @guarded(None)
    def record_exception(
        self,
        exception: BaseException,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        kind, told = type(exception), "".join(traceback.format_exception(exception))
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        self.add_event(
            "exception",
            {
                "exception.type": f"{module}{kind.__qualname__}",
                "exception.message": _message_of(exception),
                "exception.stacktrace": told[-_MAX_TRACEBACK:],
                "exception.escaped": str(escaped),
                **(attributes or {}),
            },
            timestamp,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self.fail(error)
        self.end()


def _as_it_is(text: str) -> Any:
    return text


def frozen(value: Any, text: Callable[[str], Any] = _as_it_is) -> Any:
    """An attribute's value as it is now: OpenTelemetry takes lists and mappings, which may change later."""
    if isinstance(value, bool | int | float | bytes) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(key): frozen(item, text) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(frozen(item, text) for item in value)
    return text(str(value)[:MAX_CHARS])


def _weight_of(value: Any) -> int:
    """Bytes of a frozen value, roughly."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, Mapping):
        return sum(len(key) + _weight_of(item) for key, item in value.items())
    return 8 + sum(map(_weight_of, value)) if isinstance(value, tuple) else 8


def _message_of(error: BaseException) -> str:
    try:
        return str(error)[:_MAX_MESSAGE]
    except Exception:
        return f"<a {type(error).__name__} that has no text>"
