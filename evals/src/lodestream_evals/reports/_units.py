"""Numbers in people's units: 82.0 %, $0.0012, 1.3 s."""

import enum
import math

_MINUTE, _HOUR = 60, 3_600


class Kind(enum.Enum):
    """What the numbers of a metric are."""

    SHARE = "share"
    """The share of answers that are true, from 0 to 1."""
    NUMBER = "number"
    SECONDS = "seconds"
    USD = "usd"
    CATEGORY = "category"
    TEXT = "text"


def shown(kind: Kind, value: float) -> str:
    """The value with its unit."""
    if not math.isfinite(value):
        return str(value)
    match kind:
        case Kind.SHARE:
            return f"{100 * value:.1f} %"
        case Kind.SECONDS:
            return seconds(value)
        case Kind.USD:
            return usd(value)
        case _:
            return number(value)


def signed(kind: Kind, difference: float) -> str:
    """A difference with its sign; shares in percentage points."""
    if not math.isfinite(difference):
        return str(difference)
    if kind is Kind.SHARE:
        return f"{100 * difference:+.1f} pp"
    return ("-" if difference < 0 else "+") + shown(kind, abs(difference))


def interval(kind: Kind, low: float, high: float) -> str:
    """From and to, of a difference."""
    if kind is Kind.SHARE and math.isfinite(low) and math.isfinite(high):
        return f"[{100 * low:+.1f}, {100 * high:+.1f}] pp"
    return f"[{signed(kind, low)}, {signed(kind, high)}]"


def seconds(value: float) -> str:
    """`0 s`, `412 µs`, `412 ms`, `1.3 s`, `2m 05s`, `1h 02m`."""
    size = abs(value)
    sign = "-" if value < 0 else ""
    if size >= _HOUR:
        minutes = round(size / _MINUTE)
        return f"{sign}{minutes // 60}h {minutes % 60:02}m"
    if size >= 59.95:
        whole = round(size)
        return f"{sign}{whole // _MINUTE}m {whole % _MINUTE:02}s"
    if size >= 0.9995:
        return f"{sign}{size:.1f} s"
    if size >= 0.000_999_5:
        return f"{sign}{_digits(size * 1e3)} ms"
    return f"{sign}{_digits(size * 1e6)} µs" if size else "0 s"


def usd(value: float) -> str:
    """`$0`, `$0.0012`, `$1.23`, `$1,234`."""
    size = abs(value)
    sign = "-" if value < 0 else ""
    if size == 0:
        return "$0"
    if size >= 999.995:
        return f"{sign}${size:,.0f}"
    if size >= 0.9995:
        return f"{sign}${size:.2f}"
    exponent = math.floor(math.log10(size))
    text = f"{size:.{min(1 - exponent, 12)}f}"
    return f"{sign}${text}" if float(text) else f"{sign}$<1e-12"


def number(value: float) -> str:
    """Up to four significant digits; whole numbers whole."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if 1_000 <= abs(value) < 1e15 else f"{value:.4g}"


def count(value: int, noun: str) -> str:
    """`1 item`, `1,234 items`."""
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"


def probability(value: float) -> str:
    """Of a test; near 0.05 with one digit more, so that it is not rounded across."""
    if value < 0.001:
        return "<0.001"
    return f"{value:.4f}" if 0.0495 <= value < 0.0505 else f"{value:.3f}"


def _digits(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
