"""What is kept of what a generator yields: by value, as it was then, and bounded in characters."""

import io
import json
from array import array
from collections import deque
from collections.abc import Callable
from typing import Any

from lodestream._diagnostics import report
from lodestream._json.lenient import to_json

_HEAD_CHARS, _TAIL_CHARS = 300_000, 40_000
"""Of what is yielded the beginning and the end are kept: the last chunk of a model's stream has the usage."""
_MAX_ITEMS = 10_000
_UNKNOWN_WEIGHT = 1_000  # of an object that only a transformation of the program's understands


class Yielded:
    """What was yielded, texts joined, anything else as a list."""

    def __init__(self, to_text: Callable[[list[Any]], Any] | None) -> None:
        self._to_text = to_text
        self._items: list[Any] = []
        self._texts: _Texts | None = None
        self._values: _Values | None = None
        self._room, self._more = _HEAD_CHARS, 0

    def add(self, item: Any) -> None:
        if self._to_text is not None:
            self._keep(item)
        elif self._values is None and type(item) is str:
            if self._texts is None:
                self._texts = _Texts()
            self._texts.add(item)
        else:
            if self._values is None:
                self._values = _Values()
                for text in self._texts.parts() if self._texts is not None else ():
                    self._values.add(text)
                self._texts = None
            self._values.add(item)

    def encoded(self) -> str | None:
        """The output as its attribute has it; None where it is a value that has to be encoded yet."""
        if self._to_text is not None:
            return None
        return f"[{','.join(self._values.parts())}]" if self._values is not None else self.output()

    def output(self) -> Any:
        """The output as a value."""
        if self._to_text is not None:
            items, self._items = self._items, []
            try:
                return self._to_text(items)
            except Exception as error:
                report("transform_to_string", error)
            return [*items, f"… {self._more} more"] if self._more else items
        if self._values is not None:
            return list(map(json.loads, self._values.parts()))
        return self._texts.joined() if self._texts is not None else ""

    def _keep(self, item: Any) -> None:
        """For a transformation of the program's, which knows its own objects; containers are copied."""
        if len(self._items) >= _MAX_ITEMS or self._room <= 0:
            self._more += 1
            return
        weight = len(item) if isinstance(item, str | bytes) else _UNKNOWN_WEIGHT
        if type(item) in (dict, list):
            text = to_json(item, self._room)
            item, weight = json.loads(text), len(text)
        self._room -= weight
        self._items.append(item)


class _Texts:
    """The beginning and the end of texts joined."""

    def __init__(self) -> None:
        self._head, self._room = io.StringIO(), _HEAD_CHARS
        self._tail: deque[str] = deque()
        self._in_tail = self._left_out = 0
        self._lengths = array("L")

    def add(self, text: str) -> None:
        if len(self._lengths) < _MAX_ITEMS:
            self._lengths.append(len(text))
        if len(text) <= self._room:
            self._head.write(text)
            self._room -= len(text)
            return
        self._head.write(text[: self._room])
        rest, self._room = text[self._room :], 0
        self._tail.append(rest[-_TAIL_CHARS:])
        self._in_tail += len(self._tail[-1])
        self._left_out += len(rest) - len(self._tail[-1])
        while self._in_tail - len(self._tail[0]) >= _TAIL_CHARS:
            self._left_out += len(self._tail[0])
            self._in_tail -= len(self._tail.popleft())

    def joined(self) -> str:
        tail = "".join(self._tail)
        left_out = self._left_out + max(len(tail) - _TAIL_CHARS, 0)
        note = f"… {left_out} characters …" if left_out else ""
        return f"{self._head.getvalue()}{note}{tail[-_TAIL_CHARS:]}"

    def parts(self) -> list[str]:
        """The texts, as far as they are in the beginning."""
        whole, at, parts = self._head.getvalue(), 0, []
        for length in self._lengths:
            parts.append(whole[at : at + length])
            at += length
        return [*parts, whole[at:]] if at < len(whole) else parts


class _Values:
    """The first and the last of values, as the JSON that they were when they came."""

    def __init__(self) -> None:
        self._head: list[str] = []
        self._room = _HEAD_CHARS
        self._tail: deque[str] = deque()
        self._in_tail = self._left_out = 0

    def add(self, value: Any) -> None:
        if self._room > 0 and len(self._head) < _MAX_ITEMS:
            self._head.append(to_json(value, self._room))
            self._room -= len(self._head[-1]) + 1
            return
        self._tail.append(to_json(value, _TAIL_CHARS))
        self._in_tail += len(self._tail[-1])
        while self._in_tail - len(self._tail[0]) >= _TAIL_CHARS or len(self._tail) > _MAX_ITEMS:
            self._left_out += 1
            self._in_tail -= len(self._tail.popleft())

    def parts(self) -> list[str]:
        note = [f'"… {self._left_out} more …"'] if self._left_out else []
        return [*self._head, *note, *self._tail]
