"""A limit of requests by second, with a burst."""

import math


class Bucket:
    """Holds up to `burst` requests' worth, filled at a rate; time is passed in."""

    def __init__(self, per_second: float, burst: int) -> None:
        """0 per second: no limit."""
        self._rate, self._burst = per_second, burst
        self._level, self._filled_at = float(burst), -math.inf

    def take(self, now: float) -> float:
        """0 when the request may pass, else the seconds until one may."""
        if not self._rate:
            return 0.0
        self._level = min(self._level + (now - self._filled_at) * self._rate, self._burst)
        self._filled_at = now
        if self._level >= 1:
            self._level -= 1
            return 0.0
        return (1 - self._level) / self._rate
