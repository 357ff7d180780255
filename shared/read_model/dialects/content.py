"""The cold content of a span, read when its trace is opened."""

from itertools import chain
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from shared.read_model.blocks import Source
from shared.read_model.dialects.fields import Content, Dialect, Found
from shared.read_model.dialects.order import DIALECTS
from shared.read_model.dialects.plans import first, plan_of
from shared.read_model.dialects.values import Cleaner, mapping_of, plain

_PARAMETERS = "gen_ai.request."
_MODEL = "gen_ai.request.model"
_FIELDS = (
    "span_name", "level", "status_message", "model", "provider", "prompt_name", "prompt_version", "trace_name",
    "user_id", "session_id", "tags", "environment", "release", "version", "input", "output", "as_root",
    "model_parameters", "metadata",
)  # fmt: skip
_TOLD = tuple(chain.from_iterable(dialect.told for dialect in DIALECTS))
_UNDERSTOOD = frozenset(
    chain(
        chain.from_iterable(getattr(dialect, field) for dialect in DIALECTS for field in _FIELDS),
        chain.from_iterable(told.keys for told in _TOLD),
    )
)
_UNDERSTOOD_PREFIXES = (
    _PARAMETERS,
    *chain.from_iterable(told.prefixes for told in _TOLD),
    *(f"{key}." for dialect in DIALECTS for key in dialect.metadata),
)


def content(source: Source) -> Content:
    """What a span carries besides its row. Never raises for what an emitter may send."""
    attributes = list(source.span.attributes)
    found = {attribute.key: attribute.value for attribute in attributes}
    clean = Cleaner()
    plan = plan_of(attributes, events=bool(source.span.events))
    told_input, told_output = (first(plan.get(field, ()), attributes, source, clean) for field in ("input", "output"))
    return Content(
        input=None if told_input is None else clean.text(told_input),
        output=None if told_output is None else clean.text(told_output),
        metadata=_metadata(found, source, clean),
        model_parameters=_model_parameters(found, clean),
        attributes={
            key: plain(value)
            for key, value in found.items()
            if key not in _UNDERSTOOD and not key.startswith(_UNDERSTOOD_PREFIXES)
        },
    )


def _metadata(found: Found, source: Source, clean: Cleaner) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for dialect in DIALECTS:
        for key in dialect.metadata:
            for name, value in _entries(found, key, dialect, source, clean):
                metadata.setdefault(name, value)
    return metadata


def _entries(found: Found, key: str, dialect: Dialect, source: Source, clean: Cleaner) -> list[tuple[str, Any]]:
    start = f"{key}."
    apart = [
        (name[len(start) :], dialect.metadata_value(value, source))
        for name, value in found.items()
        if name.startswith(start)
    ]
    if key not in found:
        return apart
    whole = mapping_of(found[key], clean)
    return [*apart, *(whole.items() if whole else [("metadata", plain(found[key]))])]


def _model_parameters(found: dict[str, AnyValue], clean: Cleaner) -> dict[str, Any]:
    for dialect in DIALECTS:
        for key in dialect.model_parameters:
            if key in found and (parameters := mapping_of(found[key], clean)):
                return parameters
    return {
        key.removeprefix(_PARAMETERS): plain(value)
        for key, value in found.items()
        if key.startswith(_PARAMETERS) and key != _MODEL
    }
