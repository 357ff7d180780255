"""A version of a dataset and its items, as a program has them."""

import datetime as dt
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, Unpack, overload

if TYPE_CHECKING:
    from lodestream._results import ExperimentOptions, ExperimentResult

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


ItemStatus = Literal["ACTIVE", "ARCHIVED"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetItem:
    """What goes in, and what is expected to come out. Fields can be had as keys too: `item["input"]`."""

    id: str
    input: Any
    expected_output: Any = None
    """None also where there is none."""
    metadata: Mapping[str, Any] | None = None
    splits: Sequence[str] = ()
    source_trace_id: str | None = None
    """The trace it was taken from, 32 hex digits; for the observation in it 16."""
    source_observation_id: str | None = None
    status: ItemStatus = "ACTIVE"
    dataset_name: str = ""
    version: int = 0
    """The version of the dataset that made the item what it is."""
    created_at: dt.datetime | None = None
    updated_at: dt.datetime | None = None
    author: str = ""

    def __getitem__(self, name: str) -> Any:
        if name not in self.__dataclass_fields__:
            raise KeyError(name)
        return getattr(self, name)


class Runner(Protocol):
    """Runs experiments over a dataset: the client that it is of."""

    def run_experiment(
        self, *, name: str, data: Any, task: Callable[..., Any], **options: "Unpack[ExperimentOptions]"
    ) -> "ExperimentResult": ...
    async def run_experiment_async(
        self, *, name: str, data: Any, task: Callable[..., Any], **options: "Unpack[ExperimentOptions]"
    ) -> "ExperimentResult": ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Iterates over its items, which are asked for page by page when they are needed; later changes don't show."""

    id: str
    name: str
    version: int
    description: str = ""
    metadata: Mapping[str, Any] | None = None
    input_schema: Mapping[str, Any] | bool | None = None
    expected_output_schema: Mapping[str, Any] | bool | None = None
    splits: Sequence[str] = ()
    """The items are those with any of these; without, all."""
    all_splits: Sequence[str] = ()
    """The splits that any item has."""
    archived: bool = False
    pinned: bool = False
    """Whether this version was asked for, by its number or by an instant."""
    created_at: dt.datetime | None = None
    updated_at: dt.datetime | None = None
    items: Items = field(repr=False, compare=False)
    _reopen: "Callable[[int], Dataset]" = field(repr=False, compare=False)
    """Asks for another version of it."""
    _runner: "Runner" = field(repr=False, compare=False)

    def __iter__(self) -> Iterator[DatasetItem]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __bool__(self) -> bool:
        return True  # there is one, be it empty

    def at(self, version: int) -> "Dataset":
        """Return the dataset at another version.

        Args:
            version: The version, from 1.

        Returns:
            The dataset, with the splits of this one.

        Raises:
            DatasetNotFoundError: There was no such version.
            DatasetUnavailableError: The server can't be reached.
        """
        return self._reopen(version)

    def run_experiment(self, *, name: str, task: Any, **options: "Unpack[ExperimentOptions]") -> "ExperimentResult":
        """Run an experiment over these items: `client.run_experiment` with them as its data.

        Args:
            name: The experiment's name.
            task: As for `Lodestream.run_experiment`.
            **options: As for `Lodestream.run_experiment`.

        Returns:
            The result.

        Raises:
            ExperimentError: As for `Lodestream.run_experiment`, and so are the others.
        """
        return self._runner.run_experiment(name=name, data=self, task=task, **options)

    async def run_experiment_async(
        self, *, name: str, task: Any, **options: "Unpack[ExperimentOptions]"
    ) -> "ExperimentResult":
        """Run an experiment over these items in the running loop: `client.run_experiment_async`.

        Args:
            name: The experiment's name.
            task: As for `Lodestream.run_experiment`.
            **options: As for `Lodestream.run_experiment`.

        Returns:
            The result.

        Raises:
            ExperimentError: As for `Lodestream.run_experiment`, and so are the others.
        """
        return await self._runner.run_experiment_async(name=name, data=self, task=task, **options)


@dataclass(frozen=True, slots=True)
class RefusedItem:
    """A row that was not stored."""

    row: int
    """From 0, in the order given."""
    field: str
    """For example "input.question"."""
    reason: str


@dataclass(frozen=True, slots=True)
class RecordedItems:
    """What was stored."""

    item_ids: Sequence[str]
    """In the order given; "" for a row that was refused."""
    version: int
    """The dataset's version with the items."""
