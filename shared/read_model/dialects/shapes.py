"""What is found out of the keys of a span, once for all spans that have the same ones in the same order."""

from typing import TypeVar

Shape = tuple[str, ...]
"""Keys in the order in which they stand. Instrumentations write few different ones, again and again."""
Value = TypeVar("Value")

_MOST_CHARACTERS = 2_000_000
_OF_A_KEY = 50  # what a key takes besides its characters, roughly


class Shapes(dict[Shape, Value]):
    """What was found out of a shape. All is forgotten when emitters make up too many of them."""

    def __init__(self) -> None:
        super().__init__()
        self._characters = 0

    def remember(self, shape: Shape, found: Value) -> Value:
        """Keep it for the next span of the shape."""
        if shape not in self:
            characters = len("".join(shape)) + _OF_A_KEY * len(shape)
            if self._characters + characters > _MOST_CHARACTERS:
                self.clear()
                self._characters = 0
            self._characters += characters
        self[shape] = found
        return found
