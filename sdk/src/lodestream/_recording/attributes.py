"""What an observation, a span, an event or a link holds as attributes, and the names of ours on the wire."""

import datetime as dt
import traceback
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any, Literal, TypedDict, get_args

from lodestream_evals.lenient_json import MAX_CHARS, to_json, to_text

from lodestream._diagnostics import report_internal_error, warn_once

ObservationType = Literal[
    "span", "generation", "embedding", "agent", "tool", "chain", "retriever", "evaluator", "guardrail", "event"
]
Level = Literal["DEBUG", "DEFAULT", "WARNING", "ERROR"]
Attributes = dict[str, Any]
Shown = Callable[[Any, str], Any]
"""What may be kept of the value of a field: what the mask makes of it, where there is one."""

MAX_METADATA = 256
"""Entries of metadata that an observation holds."""
MAX_METADATA_CHARS = 100_000
"""Characters of them in all."""
_MAX_FIELD_CHARS = 20_000  # of model parameters, usage and the like
_MAX_STATUS_CHARS = 20_000
_MAX_KEY_CHARS = 1_000

TYPE = "lodestream.observation.type"
INPUT = "lodestream.observation.input"
OUTPUT = "lodestream.observation.output"
METADATA = "lodestream.observation.metadata"
LEVEL = "lodestream.observation.level"
STATUS_MESSAGE = "lodestream.observation.status_message"
COMPLETION_START_TIME = "lodestream.observation.completion_start_time"
PROMPT_NAME = "lodestream.observation.prompt.name"
PROMPT_VERSION = "lodestream.observation.prompt.version"
VERSION = "lodestream.version"
AS_ROOT = "lodestream.internal.as_root"
MODEL, MODEL_PARAMETERS = "lodestream.observation.model.name", "lodestream.observation.model.parameters"
USAGE_DETAILS, COST_DETAILS = "lodestream.observation.usage_details", "lodestream.observation.cost_details"
USER_ID, SESSION_ID, ENVIRONMENT = "user.id", "session.id", "lodestream.environment"
TRACE_NAME, TRACE_TAGS, TRACE_METADATA = "lodestream.trace.name", "lodestream.trace.tags", "lodestream.trace.metadata"
RESERVED = frozenset(
    {
        TYPE, INPUT, OUTPUT, LEVEL, STATUS_MESSAGE, COMPLETION_START_TIME, PROMPT_NAME, PROMPT_VERSION, VERSION,
        AS_ROOT, MODEL, MODEL_PARAMETERS, USAGE_DETAILS, COST_DETAILS, USER_ID, SESSION_ID, ENVIRONMENT, TRACE_NAME,
        TRACE_TAGS,
    }
)  # fmt: skip
"""Attributes for which there is room in every observation, however many others it has."""

_TYPES = frozenset(get_args(ObservationType))
_LEVELS = frozenset(get_args(Level))


class ObservationFields(TypedDict, total=False):
    """Everything an observation can be told, at its start or by `update`. None leaves a field as it is."""

    input: Any
    """Text, or anything that can be written as JSON; the same for `output`."""
    output: Any
    metadata: Any
    """A mapping, whose entries are added to those there are; anything else is kept as a whole."""
    version: str | None
    """The version of the code that is observed."""
    level: Level | None
    status_message: str | None
    completion_start_time: dt.datetime | None
    """When a model's first token came."""
    model: str | None
    model_parameters: Mapping[str, Any] | None
    usage_details: Mapping[str, int] | None
    """Tokens by kind: input, output, total, or whatever the provider counts; its own object is understood too."""
    cost_details: Mapping[str, float] | None
    """US dollars by the same kinds."""
    prompt: Any
    """What was prompted with: something with a `name` and a `version`, as attributes or as keys."""


def known_type(as_type: str) -> str:
    """The type, "span" in place of one that does not exist."""
    if as_type in _TYPES:
        return as_type
    warn_once("as_type", f"as_type={as_type!r} is none of {', '.join(sorted(_TYPES))}; span is used")
    return "span"


def attributes_of(fields: Mapping[str, Any], shown: Shown) -> Attributes:
    """The attributes for fields. Fields that do not exist, or whose value raises, are logged and left out."""
    attributes: Attributes = {}
    for name, value in fields.items():
        if value is None:
            continue
        write = _WRITERS.get(name)
        if write is None:
            warn_once(f"field {name}", f"an observation has no field {name!r}; it has {', '.join(sorted(_WRITERS))}")
            continue
        try:
            write(attributes, value, shown)
        except Exception as error:  # one field must not take the others with it
            report_internal_error(f"encoding the field {name}", error)
    return attributes


def metadata_attributes(prefix: str, metadata: Any, shown: Shown) -> tuple[Attributes, int]:
    """JSON text for each entry, so that a number and its text stay different; and how many entries were too many."""
    kept = shown(metadata, "metadata")
    if not isinstance(kept, Mapping):
        return {prefix: to_text(kept, MAX_METADATA_CHARS)}, 0
    attributes: Attributes = {}
    room, dropped = MAX_METADATA_CHARS, max(len(kept) - MAX_METADATA, 0)
    for key, value in list(islice(kept.items(), MAX_METADATA)):
        if value is None:
            continue
        if room <= 0:
            dropped += 1
            continue
        name = f"{prefix}.{key}"[:_MAX_KEY_CHARS]
        attributes[name] = encoded = to_json(value, room)
        room -= len(name) + len(encoded)
    return attributes, dropped


def prompt_attributes(prompt: Any) -> Attributes:
    """Name and version of a prompt; without both, nothing, and that is told. A fallback is no version of it."""
    if getattr(prompt, "is_fallback", False):
        return {}
    name, version = (
        prompt.get(part) if isinstance(prompt, Mapping) else getattr(prompt, part, None) for part in ("name", "version")
    )
    if not isinstance(name, str) or not isinstance(version, int):
        warn_once("prompt", f"prompt={prompt!r:.200} has no name (text) and version (number); it is ignored")
        return {}
    return {PROMPT_NAME: name, PROMPT_VERSION: version}


def _content(key: str, field: str, most: int = MAX_CHARS) -> Callable[[Attributes, Any, Shown], None]:
    def write(attributes: Attributes, value: Any, shown: Shown) -> None:
        attributes[key] = to_text(shown(value, field), most)

    return write


def _plain(key: str) -> Callable[[Attributes, Any, Shown], None]:
    def write(attributes: Attributes, value: Any, _shown: Shown) -> None:
        attributes[key] = str(value)[:_MAX_FIELD_CHARS]

    return write


def _json(key: str) -> Callable[[Attributes, Any, Shown], None]:
    def write(attributes: Attributes, value: Any, _shown: Shown) -> None:
        attributes[key] = to_json(value, _MAX_FIELD_CHARS)

    return write


def _write_metadata(attributes: Attributes, value: Any, shown: Shown) -> None:
    attributes.update(metadata_attributes(METADATA, value, shown)[0])


def _write_model_parameters(attributes: Attributes, value: Any, shown: Shown) -> None:
    attributes[MODEL_PARAMETERS] = to_json(shown(value, "model_parameters"), _MAX_FIELD_CHARS)


def _write_level(attributes: Attributes, value: Any, _shown: Shown) -> None:
    level = str(value).upper()
    if level in _LEVELS:
        attributes[LEVEL] = level
    else:
        warn_once("level", f"level={value!r} is none of {', '.join(sorted(_LEVELS))}; it is ignored")


def _write_completion_start(attributes: Attributes, value: Any, _shown: Shown) -> None:
    if isinstance(value, dt.datetime):
        attributes[COMPLETION_START_TIME] = value.astimezone().isoformat()
    else:
        warn_once("completion_start_time", f"completion_start_time={value!r} is not a datetime; it is ignored")


def _write_prompt(attributes: Attributes, value: Any, _shown: Shown) -> None:
    attributes.update(prompt_attributes(value))


_WRITERS: Mapping[str, Callable[[Attributes, Any, Shown], None]] = MappingProxyType(
    {
        "input": _content(INPUT, "input"),
        "output": _content(OUTPUT, "output"),
        "metadata": _write_metadata,
        "version": _plain(VERSION),
        "level": _write_level,
        "status_message": _content(STATUS_MESSAGE, "status_message", _MAX_STATUS_CHARS),
        "completion_start_time": _write_completion_start,
        "model": _plain(MODEL),
        "model_parameters": _write_model_parameters,
        "usage_details": _json(USAGE_DETAILS),
        "cost_details": _json(COST_DETAILS),
        "prompt": _write_prompt,
    }
)


# --- Values of attributes ---------------------------------------------------------------------------------------------
# Attributes of spans, events and links: their values as they are now, and how much of them a span holds.

_MAX_TRACEBACK = 16_000
_MAX_MESSAGE = 2_000


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
    """Return the attributes of the event that records an exception, by OpenTelemetry's semantic conventions."""
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
