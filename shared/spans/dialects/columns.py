"""The columns of a span's row: each attribute's key is looked up once, each value that gives a column is read once."""

from collections.abc import Callable
from typing import Any

from lodestream_proto.v1.trace_pb2 import LEVEL_ERROR
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from shared.spans.blocks import ReceivedSpan, SpanOrigin
from shared.spans.dialects.dialect import LEVELS, SpanColumns
from shared.spans.dialects.extraction import TEXT_FIELDS, first_value, plan_for
from shared.spans.dialects.values import ENTRIES, MAX_PREVIEW, Cleaner, text_of

_PREVIEW_SOURCE = 4 * MAX_PREVIEW  # characters looked at before whitespace is folded
_PREVIEW_GUESS = MAX_PREVIEW + 40  # enough of them for most texts
_MAX_TAGS = 100
_ORIGIN_COLUMNS = ("environment", "release", "version", "sdk")


def read_columns(source: ReceivedSpan) -> SpanColumns:
    """Read the columns that a span gives a value for. Never raises for what an emitter may send."""
    span = source.span
    attributes = list(span.attributes)
    columns = SpanColumns()
    clean = Cleaner(columns.changes)
    for field, rules in plan_for(attributes, has_events=bool(span.events)).items():
        value = first_value(rules, attributes, source, clean)
        if value is not None:
            column, convert = _COLUMNS[field]
            setattr(columns, column, convert(clean, value) if convert else value)
    if columns.name is None:
        columns.name = clean.name(span.name) or None
    status = span.status
    if columns.level is None and status.code == Status.STATUS_CODE_ERROR:
        columns.level = LEVEL_ERROR
    if columns.status_message is None and (message := status.message):
        columns.status_message = clean.name(message)
    for column, (text, cleaned) in _columns_of_origin(source.origin).items():
        if getattr(columns, column) is None:
            setattr(columns, column, text)
            if cleaned:
                for kind, times in cleaned.items():
                    clean.count(kind, times)
    return columns


def _columns_of_origin(origin: SpanOrigin) -> dict[str, tuple[str, dict[str, int]]]:
    """Columns that the resource and the SDK give all their spans, with what was cleaned; read once for each origin."""
    if not origin.columns:
        for column in _ORIGIN_COLUMNS:
            clean = Cleaner()
            text = _sdk(origin, clean) if column == "sdk" else _from_resource(origin, column, clean)
            if text:
                origin.columns[column] = clean.name(text), clean.changes
    return origin.columns


def _level(_clean: Cleaner, text: str) -> int | None:
    return LEVELS.get(text.lower())


def _tags(clean: Cleaner, texts: list[str]) -> list[str] | None:
    tags = sorted({clean.name(tag) for tag in texts})
    if (too_many := len(tags) - _MAX_TAGS) > 0:
        clean.count(ENTRIES, too_many)
    return tags[:_MAX_TAGS] or None


def _preview(clean: Cleaner, text: str) -> str:
    folded = _folded(text[:_PREVIEW_GUESS])
    if len(folded) <= MAX_PREVIEW < len(text):
        folded = _folded(text[:_PREVIEW_SOURCE])
    return clean.text(folded if len(folded) <= MAX_PREVIEW else folded[: MAX_PREVIEW - 1] + "…")


def _folded(text: str) -> str:
    """Fold every run of whitespace into one space, and strip both ends."""
    # Most texts are so already. Of whitespace only the space is printable; to see it takes half of what splitting does.
    if text.isprintable() and "  " not in text:
        return text.strip(" ")
    return " ".join(text.split())


_COLUMNS: dict[str, tuple[str, Callable[[Cleaner, Any], Any] | None]] = {
    **{field: (field, None) for field in ("type", "usage", "cost", "first_token_us", "prompt_version", "as_root")},
    **{field: (field, Cleaner.name) for field in TEXT_FIELDS},
    "level": ("level", _level),
    "tags": ("tags", _tags),
    "input": ("input_preview", _preview),
    "output": ("output_preview", _preview),
}
"""The column of each field, and how the value becomes what the column takes."""


def _from_resource(origin: SpanOrigin, column: str, clean: Cleaner) -> str | None:
    """A column from the attributes of the resource, by the rules for those of a span."""
    attributes = list(origin.resource.attributes)
    rules = plan_for(attributes, has_events=False).get(column, ())
    text: str | None = first_value(rules, attributes, ReceivedSpan(Span(), origin, 0), clean)
    return text


def _sdk(origin: SpanOrigin, clean: Cleaner) -> str:
    name, version = origin.sdk_name, origin.sdk_version
    if not name:
        name, version = (
            text_of(origin.resource_attributes[key], clean) or "" if key in origin.resource_attributes else ""
            for key in ("telemetry.sdk.name", "telemetry.sdk.version")
        )
    return f"{name}/{version}" if version else name
