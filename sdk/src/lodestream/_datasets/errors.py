"""Why a dataset could not be had, or a change of one was not made."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lodestream._datasets.dataset import RecordedItems, RefusedItem


class DatasetError(Exception):
    """What all of them are."""


class DatasetNotFoundError(DatasetError, LookupError):
    """The project has no such dataset, or had none at that version."""


class DatasetUnavailableError(DatasetError, RuntimeError):
    """The server could not be asked. What was to be changed may have been: the same again changes nothing then."""


class DatasetRefusedError(DatasetError, ValueError):
    """A change that makes no sense. `field` says where, where that is known, and `reason` why."""

    def __init__(self, message: str, *, field: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.field, self.reason = field, reason or message


class DatasetItemsRefusedError(DatasetRefusedError):
    """Some rows were refused, the others are stored."""

    def __init__(self, dataset_name: str, refused: "Sequence[RefusedItem]", recorded: "RecordedItems") -> None:
        self.refused, self.recorded = tuple(refused), recorded
        stored, given = sum(map(bool, recorded.item_ids)), len(recorded.item_ids)
        lines = [f"  row {each.row}: {each.field}: {each.reason}" for each in refused[:_MOST_TOLD]]
        if len(refused) > _MOST_TOLD:
            lines.append(f"  and {len(refused) - _MOST_TOLD} more (see .refused)")
        head = f"{len(refused)} of {given} items of {dataset_name!r} were refused, {stored} are stored:"
        first = refused[0]
        super().__init__("\n".join((head, *lines)), field=first.field, reason=first.reason)


_MOST_TOLD = 20
