"""Attributes of spans, events and links: their values as they are now, and how much of them a span holds."""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lodestream._diagnostics import tell
from lodestream._json.lenient import MAX_CHARS

_DEFAULT_COUNT = 1_000
_MAX_TRACEBACK = 16_000
_MAX_MESSAGE = 2_000


def limits_from(environ: Mapping[str, str]) -> "SpanLimits":
    """The limits that the environment sets. A value that is no number is logged, and the default holds."""
    counts = _number(environ, "OTEL_ATTRIBUTE_COUNT_LIMIT")
    length = _number(environ, "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT")

    def count(variable: str, general: int | None = None) -> int:
        for found in (_number(environ, variable), general):
            if found is not None:
                return found
        return _DEFAULT_COUNT

    span_length = _number(environ, "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT")
    return SpanLimits(
        max_span_attributes=count("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", counts),
        max_events=count("OTEL_SPAN_EVENT_COUNT_LIMIT"),
        max_links=count("OTEL_SPAN_LINK_COUNT_LIMIT"),
        max_event_attributes=count("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", counts),
        max_link_attributes=count("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", counts),
        max_span_attribute_length=length if span_length is None else span_length,
        max_attribute_length=length,
    )


def _number(environ: Mapping[str, str], variable: str) -> int | None:
    text = environ.get(variable, "").strip()
    if not text:
        return None
    if text.isdecimal():
        return int(text)
    tell(variable, f"{variable}={text!r} is not a whole number from 0; it is ignored")
    return None


def frozen(value: Any, longest: int = MAX_CHARS) -> Any:
    """An attribute's value as it is now: OpenTelemetry takes lists and mappings, which may change later."""
    if isinstance(value, bool | int | float | bytes) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(key): frozen(item, longest) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(frozen(item, longest) for item in value)
    return str(value)[: min(longest, MAX_CHARS)]


def weight_of(value: Any) -> int:
    """Bytes of a frozen value, roughly."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, Mapping):
        return sum(len(key) + weight_of(item) for key, item in value.items())
    return 8 + sum(map(weight_of, value)) if isinstance(value, tuple) else 8


def exception_attributes(error: BaseException, *, escaped: bool) -> dict[str, str]:
    """Of the event that records an exception, by OpenTelemetry's semantic conventions."""
    kind = type(error)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return {
        "exception.type": f"{module}{kind.__qualname__}",
        "exception.message": message_of(error),
        "exception.stacktrace": "".join(traceback.format_exception(error))[-_MAX_TRACEBACK:],
        "exception.escaped": str(escaped),
    }


def message_of(error: BaseException) -> str:
    try:
        return str(error)[:_MAX_MESSAGE]
    except Exception:
        return f"<a {type(error).__name__} that has no text>"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanLimits:
    """What is beyond a count is dropped and counted in the span; a text beyond a length is cut.

    OpenTelemetry's SDK specification, "Span Limits". The fields are named as in opentelemetry-sdk, whose defaults are
    128 each; ours are larger because prompts, messages and documents come as attributes.
    """

    max_span_attributes: int = _DEFAULT_COUNT
    """OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT, else OTEL_ATTRIBUTE_COUNT_LIMIT."""
    max_events: int = _DEFAULT_COUNT
    """OTEL_SPAN_EVENT_COUNT_LIMIT."""
    max_links: int = _DEFAULT_COUNT
    """OTEL_SPAN_LINK_COUNT_LIMIT."""
    max_event_attributes: int = _DEFAULT_COUNT
    """OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT, else OTEL_ATTRIBUTE_COUNT_LIMIT."""
    max_link_attributes: int = _DEFAULT_COUNT
    """OTEL_LINK_ATTRIBUTE_COUNT_LIMIT, else OTEL_ATTRIBUTE_COUNT_LIMIT."""
    max_span_attribute_length: int | None = None
    """OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT, else OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT. Characters; None: no limit."""
    max_attribute_length: int | None = None
    """OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT: of the attributes of events and links."""
