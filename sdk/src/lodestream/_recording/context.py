"""What OpenTelemetry's context carries for us: what is current, and the attributes that are propagated.

A block may be entered in one task or thread and left in another, as when a generator is closed.
"""

import json
from collections.abc import Callable, Mapping
from contextvars import Token
from types import MappingProxyType
from typing import Any

from lodestream_evals.lenient_json import to_json
from opentelemetry import baggage
from opentelemetry.context import Context, attach, create_key, get_current, set_value

from lodestream._recording.attributes import (
    ENVIRONMENT,
    SESSION_ID,
    TRACE_METADATA,
    TRACE_NAME,
    TRACE_TAGS,
    USER_ID,
    VERSION,
)

MAX_PROPAGATED_CHARS = 200
"""Characters of a propagated text, and of a metadata value as JSON."""
Entered = tuple[Token[Context], Context]
"""What undoes making a context current, and that context."""
_KEY = create_key("lodestream-propagated")
_BAGGAGE = "lodestream_"
_BAGGAGE_KEYS = {
    USER_ID: "user_id",
    SESSION_ID: "session_id",
    TRACE_NAME: "trace_name",
    ENVIRONMENT: "environment",
    VERSION: "version",
}
_FROM_BAGGAGE = {f"{_BAGGAGE}{name}": key for key, name in _BAGGAGE_KEYS.items()}
_TAGS_IN_BAGGAGE, _METADATA_IN_BAGGAGE = f"{_BAGGAGE}tags", f"{_BAGGAGE}metadata_"
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_within_frameworks: list[Callable[[Context], Context]] = []


def current_context() -> Context:
    """Return OpenTelemetry's current context, with the innermost span current in it.

    That span is not OpenTelemetry's own where a framework says by means of its own that the code is part of a run, as
    LangChain does.
    """
    context = get_current()
    for within in _within_frameworks:
        context = within(context)
    return context


def follow_framework(within: Callable[[Context], Context]) -> None:
    """Ask a framework what is current from now on.

    Args:
        within: Returns the context that it is given, changed where the calling code is part of one of its runs.
    """
    if within not in _within_frameworks:
        _within_frameworks.append(within)


def enter(context: Context) -> Entered:
    """Make a context the current one; give what is returned to `leave`."""
    return attach(context), context


def leave(entered: Entered) -> None:
    """Make the context current again that was so before.

    A block may be left by another task or thread than the one that entered it, as when a generator is closed; there the
    context was never entered, unless it was copied. OpenTelemetry's `detach` logs an error with a traceback for that.
    """
    token, context = entered
    try:
        token.var.reset(token)
    except (ValueError, RuntimeError):  # another task, or left already
        if get_current() is context:
            attach(Context() if token.old_value is Token.MISSING else token.old_value)


def propagated(context: Context) -> Mapping[str, Any]:
    """The attributes that a new observation in this context gets."""
    attributes = context.get(_KEY)
    received = baggage.get_all(context)
    if received:
        attributes = _from_baggage(received) | (attributes or {})  # type: ignore[operator]
    return attributes or _NOTHING  # type: ignore[return-value]


def with_propagated(context: Context, attributes: Mapping[str, Any]) -> Context:
    """Return the context in which new observations get these attributes, and no others."""
    return set_value(_KEY, MappingProxyType(dict(attributes)), context)


def into_baggage(attributes: Mapping[str, Any], context: Context) -> Context:
    for key, value in attributes.items():
        if key in _BAGGAGE_KEYS:
            context = baggage.set_baggage(f"{_BAGGAGE}{_BAGGAGE_KEYS[key]}", value, context)
        elif key == TRACE_TAGS:
            context = baggage.set_baggage(_TAGS_IN_BAGGAGE, to_json(value), context)
        elif key.startswith(f"{TRACE_METADATA}."):
            context = baggage.set_baggage(key.replace(f"{TRACE_METADATA}.", _METADATA_IN_BAGGAGE, 1), value, context)
    return context


def _from_baggage(received: Mapping[str, object]) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for name, value in received.items():
        if not name.startswith(_BAGGAGE) or len(text := str(value)) > 4 * MAX_PROPAGATED_CHARS:
            continue
        if name in _FROM_BAGGAGE:
            attributes[_FROM_BAGGAGE[name]] = text
        elif name == _TAGS_IN_BAGGAGE:
            attributes[TRACE_TAGS] = _tags_in(text)
        elif name.startswith(_METADATA_IN_BAGGAGE):
            attributes[f"{TRACE_METADATA}.{name.removeprefix(_METADATA_IN_BAGGAGE)}"] = text
    return attributes


def _tags_in(text: str) -> tuple[str, ...]:
    try:
        tags = json.loads(text)
    except (ValueError, RecursionError):
        tags = text.split(",")
    return tuple(map(str, tags)) if isinstance(tags, list) else (text,)
