"""The hot fields of a span: one look at each attribute's key, one at each value that tells of a field."""

from collections.abc import Callable
from typing import Any

from lodestream_proto.v1.trace_pb2 import LEVEL_ERROR
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from shared.read_model.blocks import Emitter, Source
from shared.read_model.dialects.fields import LEVELS, Hot
from shared.read_model.dialects.plans import first, plan_of
from shared.read_model.dialects.questions import NAMES
from shared.read_model.dialects.values import ENTRIES, MAX_PREVIEW, Cleaner, text_of

_PREVIEW_SOURCE = 4 * MAX_PREVIEW  # characters looked at before whitespace is folded
_PREVIEW_USUAL = MAX_PREVIEW + 40  # enough of them for most texts
_MAX_TAGS = 100
_OF_THE_EMITTER = ("environment", "release", "version", "sdk")


def hot(source: Source) -> Hot:
    """The fields of a span's row that it tells. Never raises for what an emitter may send."""
    span = source.span
    attributes = list(span.attributes)
    fields = Hot()
    clean = Cleaner(fields.changes)
    for field, asked in plan_of(attributes, events=bool(span.events)).items():
        answer = first(asked, attributes, source, clean)
        if answer is not None:
            column, settle = _COLUMNS[field]
            setattr(fields, column, settle(clean, answer) if settle else answer)
    if fields.name is None:
        fields.name = clean.name(span.name) or None
    status = span.status
    if fields.level is None and status.code == Status.STATUS_CODE_ERROR:
        fields.level = LEVEL_ERROR
    if fields.status_message is None and (message := status.message):
        fields.status_message = clean.name(message)
    for field, (text, cleaned) in _told_by(source.emitter).items():
        if getattr(fields, field) is None:
            setattr(fields, field, text)
            if cleaned:
                for kind, times in cleaned.items():
                    clean.count(kind, times)
    return fields


def _told_by(emitter: Emitter) -> dict[str, tuple[str, dict[str, int]]]:
    """What the resource and the SDK say of all their spans, and what was cleaned of it; found out once for a block."""
    if not emitter.understood:
        for field in _OF_THE_EMITTER:
            clean = Cleaner()
            text = _sdk(emitter, clean) if field == "sdk" else _of_resource(emitter, field, clean)
            if text:
                emitter.understood[field] = clean.name(text), clean.changes
    return emitter.understood


def _level(_clean: Cleaner, text: str) -> int | None:
    return LEVELS.get(text.lower())


def _tags(clean: Cleaner, texts: list[str]) -> list[str] | None:
    tags = sorted({clean.name(tag) for tag in texts})
    if (too_many := len(tags) - _MAX_TAGS) > 0:
        clean.count(ENTRIES, too_many)
    return tags[:_MAX_TAGS] or None


def _preview(clean: Cleaner, text: str) -> str:
    folded = _folded(text[:_PREVIEW_USUAL])
    if len(folded) <= MAX_PREVIEW < len(text):
        folded = _folded(text[:_PREVIEW_SOURCE])
    return clean.text(folded if len(folded) <= MAX_PREVIEW else folded[: MAX_PREVIEW - 1] + "…")


def _folded(text: str) -> str:
    """Every run of whitespace as one space, and none at the ends."""
    # Most texts are so already. Of whitespace only the space is printable; to see it takes half of what splitting does.
    if text.isprintable() and "  " not in text:
        return text.strip(" ")
    return " ".join(text.split())


_COLUMNS: dict[str, tuple[str, Callable[[Cleaner, Any], Any] | None]] = {
    **{field: (field, None) for field in ("type", "usage", "cost", "first_token_us", "prompt_version", "as_root")},
    **{field: (field, Cleaner.name) for field in NAMES},
    "level": ("level", _level),
    "tags": ("tags", _tags),
    "input": ("input_preview", _preview),
    "output": ("output_preview", _preview),
}
"""Where the answer to a question of a field goes, and how it becomes what the row takes."""


def _of_resource(emitter: Emitter, field: str, clean: Cleaner) -> str | None:
    """By the same keys as a span's own."""
    attributes = list(emitter.resource.attributes)
    asked = plan_of(attributes, events=False).get(field, ())
    text: str | None = first(asked, attributes, Source(Span(), emitter, 0), clean)
    return text


def _sdk(emitter: Emitter, clean: Cleaner) -> str:
    name, version = emitter.sdk_name, emitter.sdk_version
    if not name:
        name, version = (
            text_of(emitter.resource_attributes[key], clean) or "" if key in emitter.resource_attributes else ""
            for key in ("telemetry.sdk.name", "telemetry.sdk.version")
        )
    return f"{name}/{version}" if version else name
