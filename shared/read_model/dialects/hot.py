"""The hot fields of a span: one look at each attribute's key, one at the values that some dialect knows."""

from itertools import chain

from lodestream_proto.v1.trace_pb2 import LEVEL_ERROR
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from shared.read_model.blocks import Emitter, Source
from shared.read_model.dialects.fields import LEVELS, Dialect, Found, Hot
from shared.read_model.dialects.order import DIALECTS, first
from shared.read_model.dialects.values import MAX_PREVIEW, Cleaner, number_of, text_of, texts_of

_PREVIEW_SOURCE = 4 * MAX_PREVIEW  # characters looked at before whitespace is folded
_MAX_TAGS = 100


def _keys(field: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(getattr(dialect, field) for dialect in DIALECTS)))


_NAME, _LEVEL, _STATUS_MESSAGE, _MODEL, _PROVIDER = map(
    _keys, ("span_name", "level", "status_message", "model", "provider")
)
_PROMPT_NAME, _PROMPT_VERSION, _TRACE_NAME, _USER_ID = map(
    _keys, ("prompt_name", "prompt_version", "trace_name", "user_id")
)
_SESSION_ID, _TAGS, _ENVIRONMENT, _RELEASE, _VERSION = map(
    _keys, ("session_id", "tags", "environment", "release", "version")
)
_AS_ROOT = _keys("as_root")
_OTHER = _keys("other")
_KNOWN = frozenset(
    chain(
        _NAME, _LEVEL, _STATUS_MESSAGE, _MODEL, _PROVIDER, _PROMPT_NAME, _PROMPT_VERSION, _TRACE_NAME, _USER_ID,
        _SESSION_ID, _TAGS, _ENVIRONMENT, _RELEASE, _VERSION, _AS_ROOT, _OTHER, _keys("input"), _keys("output"),
    )
)  # fmt: skip
_PREFIXES = _keys("prefixes")


def hot(source: Source) -> Hot:
    """The fields of a span's row that it tells. Never raises for what an emitter may send."""
    span, emitter = source.span, source.emitter
    found: dict[str, AnyValue] = {}
    for attribute in span.attributes:
        key = attribute.key
        if key in _KNOWN or key.startswith(_PREFIXES):
            found[key] = attribute.value
    clean = Cleaner()
    fields = Hot(
        name=clean.name(_text(found, _NAME) or span.name) or None,
        type=first(DIALECTS, "type_of", found),
        level=_level(found, span),
        status_message=_status_message(found, span, clean),
        model=_name(found, _MODEL, clean),
        provider=_name(found, _PROVIDER, clean),
        usage=first(DIALECTS, "usage_of", found),
        cost=first(DIALECTS, "cost_of", found),
        first_token_us=first(DIALECTS, "first_token_us", found, span.start_time_unix_nano),
        prompt_name=_name(found, _PROMPT_NAME, clean),
        prompt_version=_prompt_version(found),
        trace_name=_name(found, _TRACE_NAME, clean),
        user_id=_name(found, _USER_ID, clean),
        session_id=_name(found, _SESSION_ID, clean),
        tags=_tags(found, clean),
        environment=_name_or_resource(found, _ENVIRONMENT, emitter, clean),
        release=_name_or_resource(found, _RELEASE, emitter, clean),
        version=_name_or_resource(found, _VERSION, emitter, clean),
        sdk=clean.name(_sdk(emitter)) or None,
        input_preview=_preview(found, "input", source, clean),
        output_preview=_preview(found, "output", source, clean),
        as_root=any(found[key].bool_value or text_of(found[key]) == "true" for key in _AS_ROOT if key in found),
    )
    fields.sanitized = clean.count
    return fields


def told_text(found: Found, field: str, source: Source, dialects: tuple[Dialect, ...] = DIALECTS) -> str | None:
    """A span's `input` or `output`: of each dialect in turn its plain keys, then what it has to put together."""
    for dialect in dialects:
        for key in getattr(dialect, field):
            if key in found and (text := text_of(found[key])) is not None:
                return text
        together: str | None = getattr(dialect, f"{field}_of")(found, source)
        if together is not None:
            return together
    return None


def _text(found: Found, keys: tuple[str, ...]) -> str | None:
    for key in keys:
        if key in found and (text := text_of(found[key])):
            return text
    return None


def _name(found: Found, keys: tuple[str, ...], clean: Cleaner) -> str | None:
    text = _text(found, keys)
    return clean.name(text) if text else None


def _name_or_resource(found: Found, keys: tuple[str, ...], emitter: Emitter, clean: Cleaner) -> str | None:
    return _name(found, keys, clean) or _name(emitter.resource_attributes, keys, clean)


def _level(found: Found, span: Span) -> int | None:
    told = LEVELS.get((_text(found, _LEVEL) or "").lower())
    return LEVEL_ERROR if told is None and span.status.code == Status.STATUS_CODE_ERROR else told


def _status_message(found: Found, span: Span, clean: Cleaner) -> str | None:
    text = _text(found, _STATUS_MESSAGE) or span.status.message
    return clean.name(text) if text else None


def _prompt_version(found: Found) -> int | None:
    for key in _PROMPT_VERSION:
        if key in found and (number := number_of(found[key])) is not None and 0 <= number < 2**31:
            return int(number)
    return None


def _tags(found: Found, clean: Cleaner) -> list[str] | None:
    for key in _TAGS:
        if key in found:
            tags = sorted({clean.name(tag) for tag in texts_of(found[key])})
            return tags[:_MAX_TAGS] or None
    return None


def _sdk(emitter: Emitter) -> str:
    name, version = emitter.sdk_name, emitter.sdk_version
    if not name:
        name, version = (
            text_of(emitter.resource_attributes[key]) or "" if key in emitter.resource_attributes else ""
            for key in ("telemetry.sdk.name", "telemetry.sdk.version")
        )
    return f"{name}/{version}" if version else name


def _preview(found: Found, field: str, source: Source, clean: Cleaner) -> str | None:
    text = told_text(found, field, source)
    if text is None:
        return None
    text = " ".join(text[:_PREVIEW_SOURCE].split())
    return clean.text(text if len(text) <= MAX_PREVIEW else text[: MAX_PREVIEW - 1] + "…")
