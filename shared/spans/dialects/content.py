"""The content of a span that is no column: read when its trace is opened."""

from itertools import chain
from typing import Any

from shared.spans.blocks import ReceivedSpan
from shared.spans.dialects.dialect import Attributes, Dialect, SpanContent
from shared.spans.dialects.extraction import first_value, plan_for
from shared.spans.dialects.registry import DIALECTS
from shared.spans.dialects.values import Cleaner, mapping_of, plain

_PARAMETERS = "gen_ai.request."
_MODEL = "gen_ai.request.model"
_FIELDS = (
    "span_name", "level", "status_message", "model", "provider", "prompt_name", "prompt_version", "trace_name",
    "user_id", "session_id", "tags", "environment", "release", "version", "input", "output", "as_root",
    "model_parameters", "metadata",
)  # fmt: skip
_EXTRACTORS = tuple(chain.from_iterable(dialect.extractors for dialect in DIALECTS))
_UNDERSTOOD = frozenset(
    chain(
        chain.from_iterable(getattr(dialect, field) for dialect in DIALECTS for field in _FIELDS),
        chain.from_iterable(extractor.keys for extractor in _EXTRACTORS),
    )
)
_UNDERSTOOD_PREFIXES = (
    _PARAMETERS,
    *chain.from_iterable(extractor.prefixes for extractor in _EXTRACTORS),
    *(f"{key}." for dialect in DIALECTS for key in dialect.metadata),
)


def read_content(source: ReceivedSpan) -> SpanContent:
    """Read what a span carries besides its columns. Never raises for what an emitter may send."""
    in_order = list(source.span.attributes)
    attributes = {attribute.key: attribute.value for attribute in in_order}
    clean = Cleaner()
    plan = plan_for(in_order, has_events=bool(source.span.events))
    span_input, span_output = (
        first_value(plan.get(field, ()), in_order, source, clean) for field in ("input", "output")
    )
    return SpanContent(
        input=None if span_input is None else clean.text(span_input),
        output=None if span_output is None else clean.text(span_output),
        metadata=_metadata(attributes, source, clean),
        model_parameters=_model_parameters(attributes, clean),
        attributes={
            key: plain(value)
            for key, value in attributes.items()
            if key not in _UNDERSTOOD and not key.startswith(_UNDERSTOOD_PREFIXES)
        },
    )


def _metadata(attributes: Attributes, source: ReceivedSpan, clean: Cleaner) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for dialect in DIALECTS:
        for key in dialect.metadata:
            for name, value in _entries(attributes, key, dialect, source, clean):
                metadata.setdefault(name, value)
    return metadata


def _entries(
    attributes: Attributes, key: str, dialect: Dialect, source: ReceivedSpan, clean: Cleaner
) -> list[tuple[str, Any]]:
    start = f"{key}."
    apart = [
        (name[len(start) :], dialect.metadata_value(value, source))
        for name, value in attributes.items()
        if name.startswith(start)
    ]
    if key not in attributes:
        return apart
    whole = mapping_of(attributes[key], clean)
    return [*apart, *(whole.items() if whole else [("metadata", plain(attributes[key]))])]


def _model_parameters(attributes: Attributes, clean: Cleaner) -> dict[str, Any]:
    for dialect in DIALECTS:
        for key in dialect.model_parameters:
            if key in attributes and (parameters := mapping_of(attributes[key], clean)):
                return parameters
    return {
        key.removeprefix(_PARAMETERS): plain(value)
        for key, value in attributes.items()
        if key.startswith(_PARAMETERS) and key != _MODEL
    }
