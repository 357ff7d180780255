"""The items of a dataset version: loaded as far as somebody looked."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from lodestream._datasets.dataset import DatasetItem

Page = tuple[Sequence["DatasetItem"], str]
"""Items, and the token of the next page; "" when there is none."""


class Items(Sequence["DatasetItem"]):
    """In the order in which they were first recorded. Any thread may look; a page is asked for once."""

    def __init__(self, ask: Callable[[str], Page], count: int | None) -> None:
        """`ask` gives the page of a token; `count` is how many there are, where that is known."""
        self._ask, self._count = ask, count
        self._loaded: list[DatasetItem] = []
        self._next: str | None = ""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        if self._count is None:
            while self._load():
                pass
            self._count = len(self._loaded)
        return self._count

    def __iter__(self) -> "Iterator[DatasetItem]":
        at = 0
        while at < len(self._loaded) or self._load(beyond=at):
            yield self._loaded[at]
            at += 1

    @overload
    def __getitem__(self, which: int) -> "DatasetItem": ...
    @overload
    def __getitem__(self, which: slice) -> "Sequence[DatasetItem]": ...
    def __getitem__(self, which: int | slice) -> "DatasetItem | Sequence[DatasetItem]":
        if isinstance(which, slice) or which < 0:
            return list(self)[which]
        while which >= len(self._loaded) and self._load(beyond=len(self._loaded)):
            pass
        return self._loaded[which]

    def _load(self, beyond: int | None = None) -> bool:
        """The next page; not when there are items beyond that number by now. False: there is no more."""
        with self._lock:
            while self._next is not None and (beyond is None or len(self._loaded) <= beyond):
                items, token = self._ask(self._next)
                self._loaded += items
                self._next = token or None
            return beyond is not None and len(self._loaded) > beyond
