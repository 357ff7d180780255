"""Values that were used last, for a while."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")
_MOST, _SECONDS = 2_000, 60.0


class Memory(Generic[T]):
    """At most so many values, each for so long."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, most: int = _MOST, seconds: float = _SECONDS
    ) -> None:
        self._clock, self._most, self._seconds = clock, most, seconds
        self._known: OrderedDict[Hashable, tuple[float, T]] = OrderedDict()

    def get(self, key: Hashable) -> T | None:
        """What was put, unless it was long ago, or so much has been put since that it is forgotten."""
        since, value = self._known.get(key, (None, None))
        if since is None or self._clock() - since > self._seconds:
            return None
        self._known.move_to_end(key)
        return value

    def put(self, key: Hashable, value: T) -> None:
        """Remember it; what was used the longest ago is forgotten for it."""
        self._known[key] = self._clock(), value
        self._known.move_to_end(key)
        if len(self._known) > self._most:
            self._known.popitem(last=False)
