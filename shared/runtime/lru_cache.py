"""A mapping of bounded size that forgets what was used longest ago."""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """The entries used last, at most `capacity` of them: to get an entry or to set it is to use it.

    It is not safe to share between threads.
    """

    __slots__ = ("_capacity", "_entries")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """Return the value of a key, which counts as used; None when there is none."""
        try:
            self._entries.move_to_end(key)
        except KeyError:
            return None
        return self._entries[key]

    def peek(self, key: K) -> V | None:
        """Return the value of a key, which does not count as used; None when there is none."""
        return self._entries.get(key)

    def __setitem__(self, key: K, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)

    def pop(self, key: K) -> V | None:
        """Forget a key, and return the value it had."""
        return self._entries.pop(key, None)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[K]:
        """Iterate over the keys, the one used longest ago first."""
        return iter(self._entries)

    def __reversed__(self) -> Iterator[K]:
        """Iterate over the keys, the one used last first."""
        return reversed(self._entries)
