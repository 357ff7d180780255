"""What became of rows that were to be stored."""

from collections.abc import Sequence
from dataclasses import dataclass


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
    """Of the dataset, with them."""
