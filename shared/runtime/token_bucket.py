"""Token buckets: what may be done per second, with a burst. Time is passed in, in seconds."""

import time
from collections.abc import Callable

from shared.runtime.lru_cache import LruCache

MAX_BUCKETS = 10_000
"""Buckets that are kept."""


class Bucket:
    """A token bucket: fills with `rate` a second up to `burst`. Taking may leave a debt, which is paid off first."""

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._level, self._at = burst, now

    def wait(self, now: float) -> float:
        """Seconds until something may be taken; 0.0: now."""
        self._fill(now)
        return max(0.0, -self._level / self._rate)

    def take(self, amount: float, now: float) -> None:
        """Take, whatever is left."""
        self._fill(now)
        self._level -= amount

    def take_available(self, amount: float, now: float) -> None:
        """Take as much of an amount as there is: this never leaves a debt."""
        self._fill(now)
        self._level -= min(amount, max(0.0, self._level))

    def _fill(self, now: float) -> None:
        self._level = min(self._burst, self._level + max(0.0, now - self._at) * self._rate)
        self._at = now


class Buckets:
    """Token buckets that are alike, one for each key; of more than `capacity` the one used longest ago is dropped."""

    def __init__(
        self,
        rate: float,
        burst: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        capacity: int = MAX_BUCKETS,
    ) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: LruCache[str, Bucket] = LruCache(capacity)

    def __len__(self) -> int:
        return len(self._buckets)

    def of(self, key: str) -> Bucket:
        """Return the key's bucket; a new one is full."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self._rate, self._burst, self._clock())
        return bucket
