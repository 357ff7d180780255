"""The result of a test of one metric's pairs, and the rules of all tests."""

import math
from dataclasses import dataclass

POWER = 0.8
"""The chance of showing a difference that is there, for smallest differences and numbers of items."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of all tests of one comparison."""

    confidence: float = 0.95
    seed: int = 0
    tests: int = 1
    """The number of tests: with more, smaller p-values must be resolved."""

    resamples: int = 9_999
    """Resamples of a bootstrap, at most."""

    @property
    def alpha(self) -> float:
        """The significance level."""
        return 1 - self.confidence

    @property
    def least_pairs(self) -> int:
        """The pairs without which no sign-flip test can show anything: if all move one way, p is 2 · 0.5^pairs."""
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
    """A sentence on the figures that a reader must know."""
