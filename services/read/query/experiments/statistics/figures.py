"""Figures as a reader takes them in: shares in percent, latencies in seconds, costs in dollars."""

import math
from enum import Enum

_SMALL, _LARGE = 1e-6, 1e9
"""Within these all digits are written out."""


class Unit(Enum):
    """What the numbers of a metric count."""

    PLAIN = ""
    SHARE = " %"
    SECONDS = " s"
    DOLLARS = " USD"


def figure(value: float, unit: Unit) -> str:
    """A value with its unit."""
    return f"{_number(value, unit)}{unit.value}"


def change(value: float, unit: Unit) -> str:
    """A difference with its sign; of shares in percentage points."""
    text = _number(value, unit)
    return text if text.startswith("-") else f"+{text}"


def probability(p_value: float) -> str:
    """As it is written in a sentence."""
    if p_value < 0.001:
        return "p < 0.001"
    return f"p = {rounded_probability(p_value)}"


def rounded_probability(p_value: float) -> str:
    """To the digits that tell; near 0.05 one more, so that it is not rounded across."""
    if p_value < 0.001:
        return "< 0.001"
    places = 2 if p_value >= 0.1 else 4 if 0.0495 <= p_value < 0.0505 else 3
    return f"{p_value:.{places}f}"


def count(items: int, noun: str = "item") -> str:
    """For example "1 item", "1,650 items"."""
    return f"{items:,} {noun}{'' if items == 1 else 's'}"


def percentage(confidence: float) -> str:
    """For example "95 %"."""
    return f"{100 * confidence:.6g} %"


def _number(value: float, unit: Unit) -> str:
    if unit is Unit.SHARE:
        return _unsigned_zero(f"{100 * value:.1f}")
    if value and not _SMALL <= abs(value) < _LARGE:
        return f"{value:.3g}"
    # Three digits that tell, and at least one after the point.
    places = max(1, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return _unsigned_zero(f"{value:,.{places}f}")


def _unsigned_zero(text: str) -> str:
    return text.removeprefix("-") if not text.strip("-0.") else text
