"""Pairs: what two runs have of the same items, each item once; and how far a run differs from itself."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

_ROUNDING = 1e-12
"""Two means that differ by less, relative to the larger one, differ by the order of their sums only."""


class ValueKind(Enum):
    """The kinds of a metric's values, in the words of a sentence."""

    NUMBER = "numbers"
    BOOLEAN = "true or false"
    CATEGORY = "categories"
    TEXT = "texts"
    MIXED = "of several types"


@dataclass(frozen=True, slots=True)
class Values:
    """The values of one metric in one run: of each item one for each repetition. True is 1, false is 0."""

    kind: ValueKind
    numbers: Mapping[str, Sequence[float]] = field(default_factory=dict)
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The categories of each item, where that is the kind."""

    def items(self) -> set[str]:
        """Return the items that have a value."""
        return {
            item
            for item, values in (self.labels if self.kind is ValueKind.CATEGORY else self.numbers).items()
            if values
        }


@dataclass(frozen=True, slots=True)
class Pairs:
    """The items that both runs have a value for, by id, and their two values."""

    items: tuple[str, ...]
    baseline: tuple[float, ...] = ()
    run: tuple[float, ...] = ()
    baseline_labels: tuple[str, ...] = ()
    run_labels: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    """Items that only one of them has a value for."""

    def __len__(self) -> int:
        return len(self.items)

    def differences(self) -> tuple[float, ...]:
        """Return run - baseline of each item; 0 where they differ by rounding only."""
        return tuple(
            0.0 if math.isclose(run_value, baseline_value, rel_tol=_ROUNDING) else run_value - baseline_value
            for baseline_value, run_value in zip(self.baseline, self.run, strict=True)
        )


def pair(baseline: Values | None, run: Values | None) -> Pairs:
    """Pair the values that two runs have of a metric; they must be of one kind."""
    kind = (baseline or run or Values(ValueKind.NUMBER)).kind
    baseline_values, run_values = baseline or Values(kind), run or Values(kind)
    in_both = tuple(sorted(baseline_values.items() & run_values.items()))
    missing = tuple(sorted(baseline_values.items() ^ run_values.items()))
    if kind is ValueKind.CATEGORY:
        return Pairs(
            in_both,
            baseline_labels=tuple(most_frequent(baseline_values.labels[item]) for item in in_both),
            run_labels=tuple(most_frequent(run_values.labels[item]) for item in in_both),
            missing=missing,
        )
    return Pairs(
        in_both,
        baseline=tuple(mean(baseline_values.numbers[item]) for item in in_both),
        run=tuple(mean(run_values.numbers[item]) for item in in_both),
        missing=missing,
    )


def mean(values: Iterable[float]) -> float:
    """Return the mean, which depends neither on the order of the values nor on their size."""
    numbers = list(values)
    largest = max(map(abs, numbers))
    if largest == 0:
        return 0.0
    scale = 2.0 ** math.frexp(largest)[1] if largest < 1e300 else largest
    return math.fsum(value / scale for value in numbers) / len(numbers) * scale


def most_frequent(labels: Sequence[str]) -> str:
    """Return the category that an item was given most often; of several, the first by code points."""
    counts = Counter(labels)
    return min(counts, key=lambda label: (-counts[label], label))


def noise_floor(values: Values) -> float | None:
    """Return the mean absolute difference between the halves of each item's repetitions.

    Of categories it is the share that differs. None where no item has two repetitions. Every other repetition makes a
    half, so that a drift in time is in both.
    """
    if values.kind is ValueKind.CATEGORY:
        distances = [
            float(most_frequent(repetitions[::2]) != most_frequent(repetitions[1::2]))
            for _, repetitions in sorted(values.labels.items())
            if len(repetitions) > 1
        ]
    else:
        distances = [
            abs(mean(repetitions[::2]) - mean(repetitions[1::2]))
            for _, repetitions in sorted(values.numbers.items())
            if len(repetitions) > 1
        ]
    return mean(distances) if distances else None
