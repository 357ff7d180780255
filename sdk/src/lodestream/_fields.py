"""What can be told of an observation, and the attributes that say it on the wire."""

import datetime as dt
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypedDict, get_args

from lodestream._encode import to_json
from lodestream._guard import tell

ObservationType = Literal[
    "span", "generation", "embedding", "agent", "tool", "chain", "retriever", "evaluator", "guardrail", "event"
]
Level = Literal["DEBUG", "DEFAULT", "WARNING", "ERROR"]
Attributes = dict[str, Any]
Text = Callable[[Any], str]
"""How content becomes text: masked, then encoded."""

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
    """Of the code that is observed."""
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
    tell("as_type", f"as_type={as_type!r} is none of {', '.join(sorted(_TYPES))}; span is used")
    return "span"


def attributes_of(fields: Mapping[str, Any], text: Text) -> Attributes:
    """The attributes for fields. Fields that do not exist are told and left out."""
    attributes: Attributes = {}
    for name, value in fields.items():
        if value is None:
            continue
        write = _WRITERS.get(name)
        if write is None:
            tell(f"field {name}", f"an observation has no field {name!r}; it has {', '.join(sorted(_WRITERS))}")
        else:
            write(attributes, value, text)
    return attributes


def metadata_attributes(prefix: str, metadata: Any, text: Text) -> Attributes:
    """JSON text for each entry, so that a number and its text stay different."""
    if not isinstance(metadata, Mapping):
        return {prefix: text(metadata)}
    return {
        f"{prefix}.{key}": to_json(text(value)) if isinstance(value, str) else text(value)
        for key, value in metadata.items()
        if value is not None
    }


def prompt_attributes(prompt: Any) -> Attributes:
    """Name and version of a prompt; without both, nothing, and that is told. A fallback is no version of it."""
    if getattr(prompt, "is_fallback", False):
        return {}
    name, version = (
        prompt.get(part) if isinstance(prompt, Mapping) else getattr(prompt, part, None) for part in ("name", "version")
    )
    if not isinstance(name, str) or not isinstance(version, int):
        tell("prompt", f"prompt={prompt!r:.200} has no name (text) and version (number); it is ignored")
        return {}
    return {PROMPT_NAME: name, PROMPT_VERSION: version}


def _content(key: str) -> Callable[[Attributes, Any, Text], None]:
    def write(attributes: Attributes, value: Any, text: Text) -> None:
        attributes[key] = text(value)

    return write


def _plain(key: str) -> Callable[[Attributes, Any, Text], None]:
    def write(attributes: Attributes, value: Any, _text: Text) -> None:
        attributes[key] = str(value)

    return write


def _json(key: str) -> Callable[[Attributes, Any, Text], None]:
    def write(attributes: Attributes, value: Any, _text: Text) -> None:
        attributes[key] = to_json(value)

    return write


def _write_metadata(attributes: Attributes, value: Any, text: Text) -> None:
    attributes.update(metadata_attributes(METADATA, value, text))


def _write_level(attributes: Attributes, value: Any, _text: Text) -> None:
    level = str(value).upper()
    if level in _LEVELS:
        attributes[LEVEL] = level
    else:
        tell("level", f"level={value!r} is none of {', '.join(sorted(_LEVELS))}; it is ignored")


def _write_completion_start(attributes: Attributes, value: Any, _text: Text) -> None:
    if isinstance(value, dt.datetime):
        attributes[COMPLETION_START_TIME] = value.astimezone().isoformat()
    else:
        tell("completion_start_time", f"completion_start_time={value!r} is not a datetime; it is ignored")


def _write_prompt(attributes: Attributes, value: Any, _text: Text) -> None:
    attributes.update(prompt_attributes(value))


_WRITERS: Mapping[str, Callable[[Attributes, Any, Text], None]] = MappingProxyType(
    {
        "input": _content(INPUT),
        "output": _content(OUTPUT),
        "metadata": _write_metadata,
        "version": _plain(VERSION),
        "level": _write_level,
        "status_message": _content(STATUS_MESSAGE),
        "completion_start_time": _write_completion_start,
        "model": _plain("lodestream.observation.model.name"),
        "model_parameters": _json("lodestream.observation.model.parameters"),
        "usage_details": _json("lodestream.observation.usage_details"),
        "cost_details": _json("lodestream.observation.cost_details"),
        "prompt": _write_prompt,
    }
)
