"""What a test says of the pairs of one metric."""

import math
from dataclasses import dataclass

POWER = 0.8
"""The chance of showing a difference that is there, by which smallest differences and numbers of items are reckoned."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for all tests of an answer."""

    confidence: float = 0.95
    seed: int = 0
    tests: int = 1
    """How many are made: with more, smaller probabilities must be told apart."""

    resamples: int = 9_999
    """Of a bootstrap, at most."""

    @property
    def alpha(self) -> float:
        """The chance of being wrong that is taken."""
        return 1 - self.confidence

    @property
    def least_pairs(self) -> int:
        """With fewer pairs no sign-flip test can show anything: all items moving one way has at least 2 · 0.5^pairs."""
        return math.ceil(math.log2(2 / self.alpha) - 1e-9)


@dataclass(frozen=True, slots=True)
class Finding:
    """The estimate, its interval, the test that belongs to it, and what the test is able to find."""

    test: str
    p_value: float | None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    effect: str = ""
    effect_size: float | None = None
    smallest: float | None = None
    """Difference that would be shown with a power of 0.8."""
    needed: int | None = None
    """Items to show the observed difference with a power of 0.8."""
    informative: bool = True
    """Some items differ; if none does, there was nothing that the test could have shown."""
    typical: bool = False
    """The difference is the Hodges-Lehmann estimate, not that of the means."""
    remark: str = ""
    """What a reader must know of the figures."""
