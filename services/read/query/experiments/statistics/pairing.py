"""Pairs: what two runs have of the same items, each item once; and how far a run differs from itself."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

_ROUNDING = 1e-12
"""Relative to the larger one: two means that differ by less differ by the order of their sums only."""


class Kind(Enum):
    """What a metric's values are, said as in a sentence."""

    NUMBER = "numbers"
    BOOLEAN = "true or false"
    CATEGORY = "categories"
    TEXT = "texts"
    MIXED = "of several types"


@dataclass(frozen=True, slots=True)
class Values:
    """What one run has of one metric: by item, a value a repetition. True is 1, false is 0."""

    kind: Kind
    numbers: Mapping[str, Sequence[float]] = field(default_factory=dict)
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Of categories."""

    def items(self) -> set[str]:
        """All that have a value."""
        return {item for item, told in (self.labels if self.kind is Kind.CATEGORY else self.numbers).items() if told}


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
        """Of each item, run - baseline; 0 where they are the same but for rounding."""
        return tuple(
            0.0 if math.isclose(ours, theirs, rel_tol=_ROUNDING) else ours - theirs
            for theirs, ours in zip(self.baseline, self.run, strict=True)
        )


def pair(baseline: Values | None, run: Values | None) -> Pairs:
    """What two runs have in common of a metric; their values must be of one kind."""
    kind = (baseline or run or Values(Kind.NUMBER)).kind
    theirs, ours = baseline or Values(kind), run or Values(kind)
    in_both = tuple(sorted(theirs.items() & ours.items()))
    missing = tuple(sorted(theirs.items() ^ ours.items()))
    if kind is Kind.CATEGORY:
        return Pairs(
            in_both,
            baseline_labels=tuple(most_frequent(theirs.labels[item]) for item in in_both),
            run_labels=tuple(most_frequent(ours.labels[item]) for item in in_both),
            missing=missing,
        )
    return Pairs(
        in_both,
        baseline=tuple(mean(theirs.numbers[item]) for item in in_both),
        run=tuple(mean(ours.numbers[item]) for item in in_both),
        missing=missing,
    )


def mean(values: Iterable[float]) -> float:
    """The mean, whatever the order of the values and however large they are."""
    told = list(values)
    largest = max(map(abs, told))
    if largest == 0:
        return 0.0
    scale = 2.0 ** math.frexp(largest)[1] if largest < 1e300 else largest
    return math.fsum(value / scale for value in told) / len(told) * scale


def most_frequent(labels: Sequence[str]) -> str:
    """The category an item was given most often; of several, the first by code points."""
    counts = Counter(labels)
    return min(counts, key=lambda label: (-counts[label], label))


def noise_floor(values: Values) -> float | None:
    """The mean absolute difference between the halves of each item's repetitions; of categories the share that differs.

    None when no item has two. Every other repetition is a half, so that a drift in time is in both.
    """
    if values.kind is Kind.CATEGORY:
        apart = [
            float(most_frequent(told[::2]) != most_frequent(told[1::2]))
            for _, told in sorted(values.labels.items())
            if len(told) > 1
        ]
    else:
        apart = [abs(mean(told[::2]) - mean(told[1::2])) for _, told in sorted(values.numbers.items()) if len(told) > 1]
    return mean(apart) if apart else None
