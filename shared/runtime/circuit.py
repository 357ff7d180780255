"""A circuit breaker: who has just failed to answer is not asked again at once."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class OpenError(Exception):
    """Not even tried."""


class Circuit:
    """Open for a while after a failure, longer after each further one; then a single try decides."""

    def __init__(
        self, *, first_seconds: float, longest_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._first, self._longest, self._clock = first_seconds, longest_seconds, clock
        self._failures = 0
        self._open_until = 0.0

    @contextmanager
    def trying(self, failures: type[Exception] | tuple[type[Exception], ...]) -> Iterator[None]:
        """Try something; what it raises of `failures` opens the circuit.

        Raises OpenError while it is open.
        """
        if self._clock() < self._open_until:
            raise OpenError("it has failed a moment ago")
        if self._failures:
            self._open()  # for all but this try
        try:
            yield
        except failures:
            self._failures = min(self._failures + 1, 30)
            self._open()
            raise
        self._failures, self._open_until = 0, 0.0

    def _open(self) -> None:
        seconds = min(self._first * 2 ** max(0, self._failures - 1), self._longest)
        self._open_until = self._clock() + seconds
