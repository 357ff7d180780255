"""What all observations below have in common: user, session, tags and the like, carried in OpenTelemetry's context."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context

from lodestream._arguments import list_of
from lodestream._diagnostics import report_internal_error, warn_once
from lodestream._recording.attributes import (
    ENVIRONMENT,
    SESSION_ID,
    TRACE_METADATA,
    TRACE_NAME,
    TRACE_TAGS,
    USER_ID,
    VERSION,
    metadata_attributes,
    prompt_attributes,
)
from lodestream._recording.clients import current_client
from lodestream._recording.context import (
    MAX_PROPAGATED_CHARS,
    Entered,
    current_context,
    enter,
    into_baggage,
    leave,
    propagated,
    with_propagated,
)
from lodestream._recording.masking import unmasked
from lodestream._recording.span import Observation

_MAX_METADATA = 64  # entries; each observation has them all


class propagate_attributes:  # noqa: N801 - reads as a function, like contextlib's
    """Give attributes to every observation within a block, and to the current one. Never raises.

    Inner blocks add tags and metadata to those of outer ones, and replace the rest. Texts have at most 200 characters,
    metadata values as JSON; longer ones are left out, and that is logged.

    Args:
        user_id: Who uses the application.
        session_id: The conversation, or whatever groups traces.
        metadata: A mapping of at most 64 entries.
        version: Of the code that is observed.
        tags: Tags of the trace.
        trace_name: The trace's name.
        environment: For example "staging". Default: the client's.
        prompt: A prompt that generations are linked to.
        as_baggage: Whether they travel in W3C baggage to the services that are called, third parties included.
    """

    def __init__(
        self,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        version: str | None = None,
        tags: Sequence[str] | None = None,
        trace_name: str | None = None,
        environment: str | None = None,
        prompt: Any = None,
        as_baggage: bool = False,
    ) -> None:
        self._as_baggage, self._entered = as_baggage, list[Entered]()
        self._attributes: dict[str, Any] = {}
        try:
            texts = {
                USER_ID: user_id,
                SESSION_ID: session_id,
                TRACE_NAME: trace_name,
                ENVIRONMENT: environment,
                VERSION: version,
                **(_first(metadata_attributes(TRACE_METADATA, metadata, unmasked)) if metadata else {}),
            }
            self._attributes = {
                key: str(value) for key, value in texts.items() if value is not None and _fits(key, value)
            }
            if tags := tuple(tag for tag in _tags_of(tags) if _fits(TRACE_TAGS, tag)):
                self._attributes[TRACE_TAGS] = tags
            if prompt is not None:
                self._attributes |= prompt_attributes(prompt)
        except Exception as error:
            report_internal_error("propagate_attributes", error)

    def __enter__(self) -> None:
        try:
            context = current_context()
            added = _added_to(context, self._attributes)
            context = with_propagated(context, _first(({**propagated(context), **added}, 0)))
            if self._as_baggage:
                context = into_baggage(_masked(added), context)
            self._entered.append(enter(context))
            current = trace.get_current_span(context)
            if isinstance(current, Observation):
                current._put_propagated(added)
            else:
                current.set_attributes(added)
        except Exception as error:
            report_internal_error("propagate_attributes", error)

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._entered:
            leave(self._entered.pop())

    def _within(self, context: Context) -> Context:
        """Return a context in which new observations get the attributes. Nothing becomes current."""
        if not self._attributes:
            return context
        added = _added_to(context, self._attributes)
        return with_propagated(context, _first(({**propagated(context), **added}, 0)))


def _added_to(context: Context, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes that are to propagate; the tags are all, with those that propagate already."""
    added = dict(attributes)
    if TRACE_TAGS in added:
        added[TRACE_TAGS] = tuple(dict.fromkeys((*propagated(context).get(TRACE_TAGS, ()), *added[TRACE_TAGS])))
    return added


def _first(counted: tuple[Mapping[str, Any], int]) -> dict[str, Any]:
    """The attributes without the metadata entries, as many as were given, that are more than propagate."""
    attributes, dropped = counted
    kept: dict[str, Any] = {}
    metadata = 0
    for key, value in attributes.items():
        if key.startswith(TRACE_METADATA):
            metadata += 1
            if metadata > _MAX_METADATA:
                dropped += 1
                continue
        kept[key] = value
    if dropped:
        warn_once("propagate metadata", f"{dropped} metadata entries were left out, at most {_MAX_METADATA} propagate")
    return kept


def _masked(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """What may leave in baggage, by the mask of the current client."""
    return current_client()._recorder.propagated(attributes)


def _tags_of(given: Any) -> tuple[str, ...]:
    """The tags of an argument; a text in place of a list is one tag, which is logged."""
    try:
        return tuple(map(str, list_of(given, "tags")))
    except TypeError as error:
        if not isinstance(given, str | bytes | bytearray):
            warn_once("tags", f"{error}; it is left out")
            return ()
        warn_once("tags", f"{error}; it is taken as one tag")
        return (given if isinstance(given, str) else bytes(given).decode("utf-8", "replace"),)


def _fits(key: str, value: Any) -> bool:
    if len(str(value)) <= MAX_PROPAGATED_CHARS:
        return True
    warn_once(
        f"propagate {key}",
        f"{key} has {len(str(value))} characters; it is left out, at most {MAX_PROPAGATED_CHARS} propagate",
    )
    return False
