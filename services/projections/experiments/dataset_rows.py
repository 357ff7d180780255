"""Changes of datasets as rows with the versions from which and until which they hold. Pure.

An archival says nothing anew: its row has no content of its own, and takes that of the row it follows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from lodestream_proto.v1.experiment_event_pb2 import DatasetCreated, DatasetItemRecorded

from services.projections.experiments.commands import Subject
from services.projections.experiments.datasets import Change, Dataset
from services.projections.experiments.decide import ItemKey


class DescriptionRow(NamedTuple):
    """Field for field the columns of dataset_descriptions."""

    project_id: str
    dataset_id: str
    version: int
    until_version: int | None
    archived: bool
    description: str
    metadata: str
    input_schema: str
    expected_output_schema: str


class ArchivedDescriptionRow(NamedTuple):
    """The same without what it takes from the row before."""

    project_id: str
    dataset_id: str
    version: int
    until_version: int | None


class ItemRow(NamedTuple):
    """Field for field the columns of dataset_items."""

    project_id: str
    dataset_id: str
    item_id: str
    version: int
    until_version: int | None
    first_version: int
    archived: bool
    input: str
    expected_output: str
    metadata: str
    source_trace_id: bytes | None
    source_span_id: bytes | None
    splits: list[str]
    author: str
    created_at: datetime
    changed_at: datetime


class ArchivedItemRow(NamedTuple):
    """The same without what it takes from the row before."""

    project_id: str
    dataset_id: str
    item_id: str
    version: int
    until_version: int | None
    author: str
    changed_at: datetime


class ChangeRow(NamedTuple):
    """Field for field the columns of dataset_changes."""

    project_id: str
    dataset_id: str
    version: int
    kind: int
    item_id: str
    author: str
    changed_at: datetime


@dataclass(slots=True)
class DatasetRows:
    """What changes come to. `until`: the version at which what held before them ended."""

    heads: dict[Subject, Dataset] = field(default_factory=dict)
    changes: list[ChangeRow] = field(default_factory=list)
    description_until: dict[Subject, int] = field(default_factory=dict)
    descriptions: list[DescriptionRow] = field(default_factory=list)
    archived_descriptions: list[ArchivedDescriptionRow] = field(default_factory=list)
    item_until: dict[ItemKey, int] = field(default_factory=dict)
    items: list[ItemRow] = field(default_factory=list)
    archived_items: list[ArchivedItemRow] = field(default_factory=list)


def rows_of(changes: Sequence[tuple[Subject, Change]]) -> DatasetRows:
    """The rows of changes, which are in the order of the log."""
    rows = DatasetRows()
    later: dict[ItemKey, int] = {}
    """The version that replaces a row, seen from its past. An item's id is never empty: that is the dataset itself."""
    for subject, change in reversed(changes):
        key = (*subject, change.item_id)
        until = later.get(key)
        later[key] = change.version
        if change.item_id:
            _add_item(rows, subject, change, until)
        else:
            _add_description(rows, subject, change, until)
        rows.heads.setdefault(subject, change.dataset)
        rows.changes.append(
            ChangeRow(
                *subject, change.version, change.kind, change.item_id, change.payload.author, change.dataset.changed_at
            )
        )
    for (*subject_of, item_id), version in later.items():
        project_id, dataset_id = subject_of
        if item_id:
            rows.item_until[project_id, dataset_id, item_id] = version
        else:
            rows.description_until[project_id, dataset_id] = version
    return rows


def _add_description(rows: DatasetRows, subject: Subject, change: Change, until: int | None) -> None:
    its = change.payload
    if isinstance(its, DatasetCreated):
        rows.descriptions.append(
            DescriptionRow(
                *subject, change.version, until, False,
                its.description, its.metadata_json, its.input_schema_json, its.expected_output_schema_json,
            )
        )  # fmt: skip
    else:
        rows.archived_descriptions.append(ArchivedDescriptionRow(*subject, change.version, until))


def _add_item(rows: DatasetRows, subject: Subject, change: Change, until: int | None) -> None:
    its, at = change.payload, change.dataset.changed_at
    if change.item and isinstance(its, DatasetItemRecorded):
        rows.items.append(
            ItemRow(
                *subject, its.item_id, change.version, until, change.item.first_version, False,
                its.input_json, its.expected_output_json, its.metadata_json,
                its.source_trace_id or None, its.source_span_id or None, sorted(set(its.splits)),
                its.author, change.item.created_at, at,
            )
        )  # fmt: skip
    else:
        rows.archived_items.append(ArchivedItemRow(*subject, change.item_id, change.version, until, its.author, at))
