"""The attributes of Langfuse's SDKs, and of ours, which differ only in the prefix and in how metadata is encoded."""

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from shared.read_model.blocks import Source
from shared.read_model.dialects.fields import TYPES, Dialect, Found, Usage
from shared.read_model.dialects.usage import from_mapping
from shared.read_model.dialects.values import MAX_BIGINT, mapping_of, number_of, text_of

PICOS = Decimal(10**12)


def sdk_dialect(
    prefix: str,
    *,
    metadata_value: Callable[[AnyValue, Source], Any],
    more: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> Dialect:
    """The dialect of an SDK that writes `<prefix>.observation.*`, `<prefix>.trace.*`; `more` are keys tried after."""
    observation, trace = f"{prefix}.observation", f"{prefix}.trace"

    def keys(name: str, *own: str) -> tuple[str, ...]:
        return (*own, *more.get(name, ()))

    return Dialect(
        name=prefix,
        type_of=_type_of(f"{observation}.type"),
        usage_of=_usage_of(f"{observation}.usage_details"),
        cost_of=_cost_of(f"{observation}.cost_details"),
        first_token_us=_first_token_us(f"{observation}.completion_start_time"),
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
        other=tuple(
            f"{observation}.{key}" for key in ("type", "usage_details", "cost_details", "completion_start_time")
        ),
    )


def _type_of(key: str) -> Callable[[Found], int | None]:
    def type_of(found: Found) -> int | None:
        return TYPES.get(text_of(found[key]) or "") if key in found else None

    return type_of


def _usage_of(key: str) -> Callable[[Found], Usage | None]:
    def usage_of(found: Found) -> Usage | None:
        return from_mapping(mapping_of(found[key])) if key in found else None

    return usage_of


def _cost_of(key: str) -> Callable[[Found], dict[str, int] | None]:
    def cost_of(found: Found) -> dict[str, int] | None:
        return cost_from(mapping_of(found[key])) if key in found else None

    return cost_of


def cost_from(raw: dict[str, Any]) -> dict[str, int] | None:
    """US dollars by kind as picodollars; what is no amount is left out."""
    costs = {kind: picos for kind, dollars in raw.items() if (picos := _picos(dollars)) is not None}
    return costs or None


def _picos(dollars: Any) -> int | None:
    if isinstance(dollars, bool) or not isinstance(dollars, int | float | str):
        return None
    try:
        picos = Decimal(str(dollars)) * PICOS
        return int(picos.to_integral_value()) if picos.is_finite() and 0 <= picos <= MAX_BIGINT else None
    except InvalidOperation:
        return None


def _first_token_us(key: str) -> Callable[[Found, int], int | None]:
    def first_token_us(found: Found, start_ns: int) -> int | None:
        if key not in found:
            return None
        nanoseconds = number_of(found[key])
        if nanoseconds is None:
            nanoseconds = _iso_ns((text_of(found[key]) or "").strip('"'))
        elapsed = int(nanoseconds - start_ns) // 1000 if nanoseconds is not None else -1
        return elapsed if 0 <= elapsed <= MAX_BIGINT else None

    return first_token_us


def _iso_ns(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000 if moment.tzinfo else None
