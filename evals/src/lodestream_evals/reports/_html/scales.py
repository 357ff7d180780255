"""Numbers on an axis: where they lie, and round numbers to label it with."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """From numbers to pixels."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The pixel of a number; one that is off the axis lies at its end."""
        span = self.high - self.low
        share = (value - self.low) / span if span > 0 else 0.5
        return self.start + max(0.0, min(share, 1.0)) * (self.end - self.start)


def pixels(value: float) -> str:
    """To a tenth."""
    return f"{value:.1f}".removesuffix(".0")


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round numbers within, at most so many; both ends where there are none."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    power = 10.0 ** math.floor(math.log10(span))
    for step in (power / 10, power / 5, power / 4, power / 2, power, 2 * power, 5 * power):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if 2 <= last - first + 1 <= most:
            return [number * step for number in range(first, last + 1)]
    return [low, high]


def rounded_up(value: float) -> float:
    """The next number above that has two digits."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / step - 1e-9) * step


def bins(values: Sequence[float], low: float, high: float, number: int) -> list[int]:
    """How many values lie in each of so many equal parts; what is beyond the ends is in the outer ones."""
    counts = [0] * number
    for value in values:
        share = (value - low) / (high - low) if high > low else 0.0
        counts[max(0, min(int(share * number), number - 1))] += 1
    return counts


def spread(values: Sequence[float]) -> tuple[float, float]:
    """From the least to the greatest, without the hundredth at each end that would flatten the rest."""
    if not values:
        return 0.0, 1.0
    ordered = sorted(values)
    cut = len(ordered) // 100
    low, high = ordered[cut], ordered[-1 - cut]
    return (low, high) if high > low else (low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2)
