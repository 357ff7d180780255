"""What is understood of a span: the hot fields that become columns, and the cold content that is read with a trace."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lodestream_proto.v1.trace_pb2 import (
    LEVEL_DEBUG,
    LEVEL_DEFAULT,
    LEVEL_ERROR,
    LEVEL_WARNING,
    SPAN_TYPE_AGENT,
    SPAN_TYPE_CHAIN,
    SPAN_TYPE_EMBEDDING,
    SPAN_TYPE_EVALUATOR,
    SPAN_TYPE_EVENT,
    SPAN_TYPE_GENERATION,
    SPAN_TYPE_GUARDRAIL,
    SPAN_TYPE_RETRIEVER,
    SPAN_TYPE_SPAN,
    SPAN_TYPE_TOOL,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from shared.read_model.blocks import Source
from shared.read_model.dialects.values import Cleaner, plain

TYPES = {
    "span": SPAN_TYPE_SPAN,
    "generation": SPAN_TYPE_GENERATION,
    "retriever": SPAN_TYPE_RETRIEVER,
    "tool": SPAN_TYPE_TOOL,
    "agent": SPAN_TYPE_AGENT,
    "embedding": SPAN_TYPE_EMBEDDING,
    "chain": SPAN_TYPE_CHAIN,
    "evaluator": SPAN_TYPE_EVALUATOR,
    "guardrail": SPAN_TYPE_GUARDRAIL,
    "event": SPAN_TYPE_EVENT,
}
LEVELS = {
    **dict.fromkeys(("debug", "trace", "verbose"), LEVEL_DEBUG),
    **dict.fromkeys(("default", "info", "log", "notice", "ok", "success"), LEVEL_DEFAULT),
    **dict.fromkeys(("warning", "warn"), LEVEL_WARNING),
    **dict.fromkeys(("error", "fatal", "critical"), LEVEL_ERROR),
}

Found = Mapping[str, AnyValue]
"""A span's attributes by key; only those that some dialect knows, when hot fields are read."""
Usage = dict[str, int]
"""Tokens by kind, each counted once: `input` without what `input_…` count apart, `output` likewise, perhaps `total`."""


@dataclass(slots=True)
class Hot:
    """The fields of a span's row that its attributes tell. None: not told."""

    name: str | None = None
    type: int | None = None
    level: int | None = None
    status_message: str | None = None
    model: str | None = None
    provider: str | None = None
    usage: Usage | None = None
    cost: dict[str, int] | None = None
    """Picodollars by the kinds of `usage`, as the emitter gave them."""
    first_token_us: int | None = None
    prompt_name: str | None = None
    prompt_version: int | None = None
    trace_name: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    tags: list[str] | None = None
    environment: str | None = None
    release: str | None = None
    version: str | None = None
    sdk: str | None = None
    input_preview: str | None = None
    output_preview: str | None = None
    as_root: bool = False
    changes: dict[str, int] = field(default_factory=dict)
    """What had to be cleaned, by kind."""


@dataclass(slots=True)
class Content:
    """The cold part of a span, as texts: JSON, or plain text where the emitter sent plain text. None: not told."""

    input: str | None = None
    output: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    model_parameters: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    """What no dialect understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a convention tells where one key with one value is not enough."""

    read: Callable[[Found, Source, Cleaner], Any]
    """The answer, or None. It is asked only where the span has something that it reads:"""
    keys: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    """Beginnings of keys."""
    events: bool = False
    """The span's events."""


NOT_TOLD = Told(read=lambda _found, _source, _clean: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What one convention tells of each field: by plain keys, the first that is present winning, or by a function.

    Of a field that has both the plain keys come first.
    """

    name: str
    type: Told = NOT_TOLD
    usage: Told = NOT_TOLD
    cost: Told = NOT_TOLD
    first_token_us: Told = NOT_TOLD
    input_of: Told = NOT_TOLD
    output_of: Told = NOT_TOLD
    metadata_value: Callable[[AnyValue, Source], Any] = lambda value, _source: plain(value)
    span_name: tuple[str, ...] = ()
    level: tuple[str, ...] = ()
    status_message: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    provider: tuple[str, ...] = ()
    prompt_name: tuple[str, ...] = ()
    prompt_version: tuple[str, ...] = ()
    trace_name: tuple[str, ...] = ()
    user_id: tuple[str, ...] = ()
    session_id: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    release: tuple[str, ...] = ()
    version: tuple[str, ...] = ()
    input: tuple[str, ...] = ()
    output: tuple[str, ...] = ()
    as_root: tuple[str, ...] = ()
    model_parameters: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    """Keys whose value is metadata as a whole; `key.x` is the entry x of it."""

    @property
    def told(self) -> tuple[Told, ...]:
        """All that functions tell."""
        return self.type, self.usage, self.cost, self.first_token_us, self.input_of, self.output_of
