"""What is found out of the keys of a span, once for all spans that have the same ones in the same order."""

from collections.abc import Callable
from typing import TypeVar

Shape = tuple[str, ...]
"""Keys in the order in which they stand. Instrumentations write few different ones, again and again."""
Value = TypeVar("Value")

_MOST_CHARACTERS = 2_000_000
_OF_A_KEY = 50  # what a key takes besides its characters, roughly


class Shapes(dict[Shape, Value]):
    """What `find` finds of a shape, remembered. All is forgotten when emitters make up too many of them."""

    def __init__(self, find: Callable[[Shape], Value]) -> None:
        super().__init__()
        self._find = find
        self._characters = 0

    def __missing__(self, shape: Shape) -> Value:
        found = self._find(shape)
        characters = sum(map(len, shape)) + _OF_A_KEY * len(shape)
        if self._characters + characters > _MOST_CHARACTERS:
            self.clear()
            self._characters = 0
        self._characters += characters
        self[shape] = found
        return found
