"""The program's mask, applied to what is about to leave the process. Decision 0030."""

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from lodestream_evals.lenient_json import MAX_CHARS, plain, to_text

from lodestream._diagnostics import warn_once
from lodestream._recording.attributes import (
    SESSION_ID,
    TRACE_METADATA,
    TRACE_TAGS,
    USER_ID,
    frozen,
    metadata_attributes,
)

MASKING_FAILED = "<masking failed>"
"""In place of what a mask that raised should have masked."""
_MARGIN = 4_096  # characters that a mask sees beyond those that are kept: it must know what the cut goes through


class Masking:
    """Shows values to the mask: copies of JSON's types, never the program's own objects.

    A mask is called as `mask(data=value)`, and as `mask(data=value, field=name)` if it takes that or any keyword. A
    list or a mapping is shown whole, so that masks that go by keys work; then each text in it that came back as it was
    is shown alone, so that masks that know texts only work too.
    """

    def __init__(self, mask: Callable[..., Any]) -> None:
        self._mask, self._takes_field = mask, _takes_field(mask)

    def value(self, value: Any, field: str) -> Any:
        """What may be kept of the value of a field."""
        shown = plain(value, MAX_CHARS + _MARGIN)
        return self._again(_shallow(shown), self._ask(shown, field), field)

    def attributes(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """What may be kept of attributes. Values that the mask leaves as they are keep their type."""
        given = {str(key): frozen(value) for key, value in attributes.items() if value is not None}
        if not given:
            return given
        before = {key: plain(value, MAX_CHARS + _MARGIN) for key, value in given.items()}
        shown = {key: plain(value, MAX_CHARS + _MARGIN) for key, value in given.items()}
        kept = self._again(before, self._ask(shown, "attributes"), "attributes")
        if not isinstance(kept, Mapping):
            return {key: frozen(kept) for key in given if kept is not None}
        return {
            str(key): given[key] if key in given and value == before[key] else frozen(value)
            for key, value in kept.items()
            if value is not None
        }

    def propagated(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """What may be kept of propagated attributes: the user, the session and the tags; metadata as one mapping."""
        kept = dict(attributes)
        for key, field in ((USER_ID, "user_id"), (SESSION_ID, "session_id")):
            if key in attributes:
                kept[key] = to_text(self.value(attributes[key], field))
        if TRACE_TAGS in attributes:
            tags = self.value(attributes[TRACE_TAGS], "tags")
            kept[TRACE_TAGS] = tuple(map(to_text, tags)) if isinstance(tags, list | tuple) else (to_text(tags),)
        prefix = f"{TRACE_METADATA}."
        if metadata := {key: value for key, value in attributes.items() if key.startswith(prefix)}:
            for key in metadata:
                del kept[key]
            decoded = {key.removeprefix(prefix): _decoded(value) for key, value in metadata.items()}
            kept |= metadata_attributes(TRACE_METADATA, decoded, self.value)[0]
        return kept

    def _again(self, before: Any, kept: Any, field: str) -> Any:
        """Show the texts alone that came back as they were."""
        if isinstance(before, dict) and isinstance(kept, Mapping):
            return {
                key: self._ask(item, field) if type(item) is str and item == before.get(key) else item
                for key, item in kept.items()
            }
        if isinstance(before, list) and isinstance(kept, list) and len(before) == len(kept):
            return [
                self._ask(item, field) if type(item) is str and item == was else item
                for item, was in zip(kept, before, strict=True)
            ]
        return kept

    def _ask(self, value: Any, field: str) -> Any:
        try:
            return self._mask(data=value, field=field) if self._takes_field else self._mask(data=value)
        except Exception as error:
            warn_once("mask", f"the mask raised {type(error).__name__}; what it should have masked is left out")
            return MASKING_FAILED


def unmasked(value: Any, _field: str) -> Any:
    """What may be kept of a value where there is no mask."""
    return value


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # it came as baggage
        return text


def _shallow(value: Any) -> Any:
    """Copy a container, so that the mask does not have the one that is compared."""
    if isinstance(value, dict):
        return dict(value)
    return list(value) if isinstance(value, list) else value


def _takes_field(mask: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(mask).parameters
    except (TypeError, ValueError):
        return False
    named = parameters.get("field")
    return (named is not None and named.kind is not named.POSITIONAL_ONLY) or any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
    )
