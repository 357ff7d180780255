"""What is derived from the attribute keys of a span, once for all spans with the same keys in the same order."""

from typing import TypeVar

SpanShape = tuple[str, ...]
"""Attribute keys in their order. An instrumentation writes few different ones, again and again."""
Value = TypeVar("Value")

_MAX_CHARACTERS = 2_000_000
_CHARACTERS_PER_KEY = 50  # what a key takes besides its characters, roughly


class ShapeCache(dict[SpanShape, Value]):
    """Values by shape, bounded in memory: when emitters make up too many shapes, all are dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._characters = 0

    def remember(self, shape: SpanShape, value: Value) -> Value:
        """Keep the value for the next span of this shape, and return it."""
        if shape not in self:
            characters = len("".join(shape)) + _CHARACTERS_PER_KEY * len(shape)
            if self._characters + characters > _MAX_CHARACTERS:
                self.clear()
                self._characters = 0
            self._characters += characters
        self[shape] = value
        return value
