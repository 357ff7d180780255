"""What a dialect declares, and what is read of a span: columns of its row, and content that is read with its trace."""

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

from shared.spans.blocks import ReceivedSpan
from shared.spans.dialects.values import Cleaner, plain

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

Attributes = Mapping[str, AnyValue]
"""A span's attributes by key; for an extractor only those that it declares."""
Usage = dict[str, int]
"""Tokens by kind, each counted once: `input` without what `input_…` count apart, `output` likewise, perhaps `total`."""


@dataclass(slots=True)
class SpanColumns:
    """The columns of a span's row that its attributes give. None: not given."""

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
class SpanContent:
    """The content of a span, as texts: JSON, or plain text where the emitter sent plain text. None: not given."""

    input: str | None = None
    output: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    model_parameters: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    """Attributes that no dialect knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extractor:
    """Reads a field of which the value of one key is not enough."""

    read: Callable[[Attributes, ReceivedSpan, Cleaner], Any]
    """Returns the value, or None. Called only for spans that have one of the keys, of the prefixes, or events."""
    keys: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    """Prefixes of keys that it reads."""
    events: bool = False
    """Whether it reads the span's events."""


NO_EXTRACTOR = Extractor(read=lambda _attributes, _source, _clean: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Where one convention has each field: under keys, of which the first that is present wins, or by an extractor.

    Of a field that has both, the keys come first.
    """

    name: str
    type: Extractor = NO_EXTRACTOR
    usage: Extractor = NO_EXTRACTOR
    cost: Extractor = NO_EXTRACTOR
    first_token_us: Extractor = NO_EXTRACTOR
    input_of: Extractor = NO_EXTRACTOR
    output_of: Extractor = NO_EXTRACTOR
    metadata_value: Callable[[AnyValue, ReceivedSpan], Any] = lambda value, _source: plain(value)
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
    """Keys whose value is all metadata; `key.x` is its entry x."""

    @property
    def extractors(self) -> tuple[Extractor, ...]:
        """All its extractors, those that read nothing too."""
        return self.type, self.usage, self.cost, self.first_token_us, self.input_of, self.output_of
