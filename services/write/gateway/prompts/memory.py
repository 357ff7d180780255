"""What this process remembers of prompts: bounded by bytes, true for some seconds, and never older than it has been."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from services.write.gateway.prompts.head import Head

Key = tuple[str, str]
"""Project and prompt name."""
FRESH_SECONDS = 5.0
"""The longest a head is answered from without a look, should no message have told of a change."""
STALE_SECONDS = 60.0
"""The longest a head is answered from while neither Redis nor the query service can say whether it still holds."""
_FLOORS = 100_000
"""Prompts of which the highest revision is known; of the least recently told ones it is forgotten."""


@dataclass(slots=True)
class Remembered:
    """A head, since when it is known to hold, and what it takes."""

    head: Head
    since: float
    size: int


class Memory:
    """Heads by project and name; the least recently used go when there is no room."""

    def __init__(self, max_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.bytes = 0
        """Of all heads, about."""
        self._most, self._clock = max_bytes, clock
        self._heads: OrderedDict[Key, Remembered] = OrderedDict()
        self._floors: OrderedDict[Key, int] = OrderedDict()
        self._doubted_at = clock()

    def fresh(self, key: Key) -> Head | None:
        """The head, if it may be answered from as it is."""
        found = self._heads.get(key)
        if found is None or found.head.revision < self._floors.get(key, 0):
            return None
        if found.since <= self._doubted_at or self._clock() - found.since > FRESH_SECONDS:
            return None
        self._heads.move_to_end(key)
        return found.head

    def stale(self, key: Key) -> Head | None:
        """The head, if it may be answered from while nobody can tell a newer one."""
        found = self._heads.get(key)
        return found.head if found and self._clock() - found.since <= STALE_SECONDS else None

    def floor(self, key: Key) -> int:
        """The highest revision that was seen or told; what is below is not looked at."""
        return self._floors.get(key, 0)

    def raise_floor(self, key: Key, revision: int) -> None:
        """A revision was told of: what is older is no longer fresh, and no longer taken."""
        if revision > self._floors.get(key, 0):
            self._floors[key] = revision
            if len(self._floors) > _FLOORS:
                self._floors.popitem(last=False)
        if key in self._floors:
            self._floors.move_to_end(key)

    def doubt_all(self) -> None:
        """Changes may have been missed: nothing is fresh until it was looked up again."""
        self._doubted_at = self._clock()

    def keep(self, key: Key, head: Head, *, since: float) -> Head:
        """What is remembered now: this head, with what the one before it knew of versions; the older of two is dropped.

        `since` is when the look-up began: what changed later may not be in it.
        """
        before = self._heads.get(key)
        if before and before.head.revision >= head.revision:
            before.since = max(before.since, since) if before.head.revision == head.revision else before.since
            self._heads.move_to_end(key)
            return before.head
        if before:
            self._forget(key)
            for number, version in before.head.versions.items():
                head.versions.setdefault(number, version)
        self.raise_floor(key, head.revision)
        self._heads[key] = Remembered(head, since, size := head.size)
        self._make_room(size)
        return head

    def grew(self, key: Key) -> None:
        """A version was added to the head."""
        if found := self._heads.get(key):
            before, found.size = found.size, found.head.size
            self._make_room(found.size - before)

    def _make_room(self, size: int) -> None:
        self.bytes += size
        while self.bytes > self._most and self._heads:
            self._forget(next(iter(self._heads)))

    def _forget(self, key: Key) -> None:
        self.bytes -= self._heads.pop(key).size
