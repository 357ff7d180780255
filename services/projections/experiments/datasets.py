"""The log decides: (a dataset, an item of it, a command) → the change it makes, if it makes one. Pure.

A dataset's version counts its changes. What already holds, said again, is no change.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from lodestream_proto.v1.datasets_pb2 import (
    DATASET_CHANGE_KIND_ARCHIVED,
    DATASET_CHANGE_KIND_CREATED,
    DATASET_CHANGE_KIND_DESCRIBED,
    DATASET_CHANGE_KIND_ITEM_ADDED,
    DATASET_CHANGE_KIND_ITEM_ARCHIVED,
    DATASET_CHANGE_KIND_ITEM_CHANGED,
)
from lodestream_proto.v1.experiment_event_pb2 import (
    DatasetArchived,
    DatasetCreated,
    DatasetItemArchived,
    DatasetItemRecorded,
)

from services.projections.experiments.commands import AboutDataset
from services.projections.experiments.content import description_digest, item_digest


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset at a version."""

    name: str
    version: int
    archived: bool
    item_count: int
    """That are not archived."""
    description: bytes
    """A digest of what it was last described as."""
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a dataset as it is."""

    version: int
    """The dataset's, that made it so."""
    first_version: int
    archived: bool
    content: bytes
    """A digest of what it was last recorded as."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """One version of a dataset: what it is then, and what made it so."""

    dataset: Dataset
    kind: int
    """A DatasetChangeKind."""
    payload: AboutDataset
    item: Item | None = None
    """As it is then, unless the dataset itself changed."""

    @property
    def version(self) -> int:
        return self.dataset.version

    @property
    def item_id(self) -> str:
        return getattr(self.payload, "item_id", "")


class NoDatasetError(LookupError):
    """Something is told of a dataset that is not there; the message says of which."""


def decide_dataset(
    dataset: Dataset | None, item: Item | None, payload: AboutDataset, appended_at: datetime
) -> Change | None:
    """The change that a command makes; None when everything is so already. `appended_at` is the log's time of it.

    Raises NoDatasetError.
    """
    if isinstance(payload, DatasetCreated):
        return _create(dataset, payload, appended_at)
    if dataset is None:
        raise NoDatasetError(f"dataset_id: this project has no dataset {payload.dataset_id!r}")
    at = max(appended_at, dataset.changed_at)  # a broker's clock may be set back
    grown = replace(dataset, version=dataset.version + 1, changed_at=at)
    match payload:
        case DatasetItemRecorded():
            return _record(grown, item, payload)
        case DatasetItemArchived():
            return _archive_item(grown, item, payload)
        case DatasetArchived():
            if dataset.archived:
                return None
            return Change(replace(grown, archived=True), DATASET_CHANGE_KIND_ARCHIVED, payload)


def _create(dataset: Dataset | None, payload: DatasetCreated, appended_at: datetime) -> Change | None:
    digest = description_digest(payload)
    if dataset is None:
        new = Dataset(payload.name, 1, False, 0, digest, appended_at, appended_at)
        return Change(new, DATASET_CHANGE_KIND_CREATED, payload)
    if not dataset.archived and dataset.description == digest:
        return None
    described = replace(
        dataset,
        version=dataset.version + 1,
        archived=False,
        description=digest,
        changed_at=max(appended_at, dataset.changed_at),
    )
    kind = DATASET_CHANGE_KIND_CREATED if dataset.archived else DATASET_CHANGE_KIND_DESCRIBED
    return Change(described, kind, payload)


def _record(grown: Dataset, item: Item | None, payload: DatasetItemRecorded) -> Change | None:
    """An item that was archived is back: it is the same one, and counts again."""
    content = item_digest(payload)
    if item is not None and not item.archived:
        if item.content == content:
            return None
        changed = replace(item, version=grown.version, content=content)
        return Change(grown, DATASET_CHANGE_KIND_ITEM_CHANGED, payload, changed)
    first, created_at = (item.first_version, item.created_at) if item else (grown.version, grown.changed_at)
    added = Item(grown.version, first, False, content, created_at)
    dataset = replace(grown, item_count=grown.item_count + 1)
    return Change(dataset, DATASET_CHANGE_KIND_ITEM_ADDED, payload, added)


def _archive_item(grown: Dataset, item: Item | None, payload: DatasetItemArchived) -> Change | None:
    """An item that was never there is not there either."""
    if item is None or item.archived:
        return None
    gone = replace(item, version=grown.version, archived=True)
    dataset = replace(grown, item_count=grown.item_count - 1)
    return Change(dataset, DATASET_CHANGE_KIND_ITEM_ARCHIVED, payload, gone)
