"""When too much of a partition is bad, the fault is ours (a bad deploy), and the partition must stop instead."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

WINDOW = 1_000
MAX_BAD_IN_WINDOW = 50
MAX_BAD_IN_A_ROW = 100


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one record went: spans folded, and spans (or the record itself) set aside."""

    good: int
    bad: int


class Breaker:
    """Watches the last WINDOW items of a partition: more than 5 % bad ones, or 100 in a row, are too many."""

    def __init__(self) -> None:
        self.tripped: str | None = None
        """Why no more must be set aside."""
        self._window: deque[Outcome] = deque()
        self._good = 0
        self._bad = 0
        self._in_a_row = 0

    def after(self, outcomes: Iterable[Outcome]) -> "Breaker":
        """The breaker as it will be when these are committed; this one stays as it is."""
        later = Breaker()
        later.tripped, later._window = self.tripped, self._window.copy()
        later._good, later._bad, later._in_a_row = self._good, self._bad, self._in_a_row
        for outcome in outcomes:
            later._add(outcome)
            later.tripped = later.tripped or later._too_much()
        return later

    def _add(self, outcome: Outcome) -> None:
        self._window.append(outcome)
        self._good += outcome.good
        self._bad += outcome.bad
        self._in_a_row = outcome.bad if outcome.good else self._in_a_row + outcome.bad
        while self._good + self._bad - self._window[0].good - self._window[0].bad >= WINDOW:
            oldest = self._window.popleft()
            self._good -= oldest.good
            self._bad -= oldest.bad

    def _too_much(self) -> str | None:
        seen = self._good + self._bad
        if self._in_a_row >= MAX_BAD_IN_A_ROW:
            return f"{self._in_a_row} spans or records in a row could not be folded"
        if seen >= WINDOW and self._bad * WINDOW > MAX_BAD_IN_WINDOW * seen:
            return f"{self._bad} of the last {seen} spans and records could not be folded"
        return None
