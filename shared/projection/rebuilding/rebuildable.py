"""What a projection tells of itself, so that its read model can be rebuilt."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Generic

import asyncpg

from shared.projection.projection import Prepared, Projection


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table, and how its rows are told apart and grouped when it is compared. All are SQL expressions."""

    name: str
    key: Sequence[str]
    """The columns of its primary key."""
    partition: str
    """The log's partition that a row came from; -1 where it came from several."""
    day: str
    heavy: Sequence[str] = ()
    """Columns too large to be shown when they differ."""
    not_of_log: Sequence[str] = ()
    """Columns that do not follow from the log, and so are not compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuildable(Generic[Prepared]):
    """A projection's read model."""

    name: str
    topic: str
    tables: Sequence[Table]
    indexes_at_once: Collection[str]
    """Secondary indexes that writing needs; the others are made when the tables are full."""
    open: Callable[[asyncpg.Pool, str], Projection[Prepared]]
    """A projection that writes through this pool's search path, and dead letters under this name."""
    prepare_connection: Callable[[asyncpg.Connection], Awaitable[None]]
