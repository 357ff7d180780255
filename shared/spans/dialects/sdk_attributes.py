"""The attributes of Langfuse's SDKs, and of ours, which differ only in the prefix and in how metadata is encoded."""

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from shared.spans.blocks import ReceivedSpan
from shared.spans.dialects.dialect import TYPES, Attributes, Dialect, Extractor, Usage
from shared.spans.dialects.usage import by_kind, from_mapping
from shared.spans.dialects.values import (
    AMOUNT,
    MAX_BIGINT,
    MAX_PICOS,
    TIME,
    Cleaner,
    mapping_of,
    number_of,
    text_of,
)

PICOS = Decimal(10**12)
_NAN = Decimal("nan")
_MAX_DOLLARS = MAX_PICOS // 10**12


def sdk_dialect(
    prefix: str,
    *,
    metadata_value: Callable[[AnyValue, ReceivedSpan], Any],
    more: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> Dialect:
    """The dialect of an SDK that writes `<prefix>.observation.*`, `<prefix>.trace.*`; `more` are keys tried after."""
    observation, trace = f"{prefix}.observation", f"{prefix}.trace"

    def keys(name: str, *own: str) -> tuple[str, ...]:
        return (*own, *more.get(name, ()))

    return Dialect(
        name=prefix,
        type=_by(f"{observation}.type", _type_of),
        usage=_by(f"{observation}.usage_details", _usage_of),
        cost=_by(f"{observation}.cost_details", _cost_of),
        first_token_us=_by(f"{observation}.completion_start_time", _first_token_us),
        metadata_value=metadata_value,
        level=(f"{observation}.level",),
        status_message=(f"{observation}.status_message",),
        model=(f"{observation}.model.name",),
        prompt_name=(f"{observation}.prompt.name",),
        prompt_version=(f"{observation}.prompt.version",),
        trace_name=(f"{trace}.name",),
        user_id=keys("user_id", f"{prefix}.user.id", "user.id"),
        session_id=keys("session_id", f"{prefix}.session.id", "session.id"),
        tags=keys("tags", f"{trace}.tags", f"{prefix}.tags"),
        environment=(f"{prefix}.environment",),
        release=(f"{prefix}.release",),
        version=(f"{prefix}.version",),
        input=(f"{observation}.input",),
        output=(f"{observation}.output",),
        as_root=(f"{prefix}.internal.as_root",),
        model_parameters=(f"{observation}.model.parameters",),
        metadata=(f"{observation}.metadata", f"{trace}.metadata"),
    )


def _by(key: str, answer: Callable[[AnyValue, ReceivedSpan, Cleaner], Any]) -> Extractor:
    """What one key tells; asked only where it is there."""

    def read(found: Attributes, source: ReceivedSpan, clean: Cleaner) -> Any:
        return answer(found[key], source, clean)

    return Extractor(read=read, keys=(key,))


def _type_of(value: AnyValue, _source: ReceivedSpan, clean: Cleaner) -> int | None:
    return TYPES.get(text_of(value, clean) or "")


def _usage_of(value: AnyValue, _source: ReceivedSpan, clean: Cleaner) -> Usage | None:
    return from_mapping(mapping_of(value, clean), clean)


def _cost_of(value: AnyValue, _source: ReceivedSpan, clean: Cleaner) -> dict[str, int] | None:
    return cost_from(mapping_of(value, clean), clean)


def cost_from(raw: Mapping[str, Any], clean: Cleaner) -> dict[str, int] | None:
    """US dollars by kind as picodollars; what is no amount is left out."""
    costs = {
        kind: picos for kind, dollars in by_kind(raw, clean).items() if (picos := _picos(dollars, clean)) is not None
    }
    return costs or None


def _picos(dollars: Any, clean: Cleaner) -> int | None:
    """Exactly what was written; None for what is no amount."""
    if isinstance(dollars, int | float | str) and not isinstance(dollars, bool):
        try:
            number = Decimal(str(dollars))
        except InvalidOperation:
            number = _NAN
        if number.is_finite() and number >= 0:
            if number <= _MAX_DOLLARS:
                return int((number * PICOS).to_integral_value())
            clean.count(AMOUNT)
            return MAX_PICOS
    clean.count(AMOUNT)
    return None


def _first_token_us(value: AnyValue, source: ReceivedSpan, clean: Cleaner) -> int | None:
    text = value.string_value
    nanoseconds = _iso_ns(text.strip('"')) if "-" in text else number_of(value, clean)
    if nanoseconds is not None:
        elapsed = int(nanoseconds - source.span.start_time_unix_nano) // 1000
        if 0 <= elapsed <= MAX_BIGINT:
            return elapsed
    clean.count(TIME)
    return None


def _iso_ns(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000 if moment.tzinfo else None
