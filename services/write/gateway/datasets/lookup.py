"""Datasets as their tables have them now, for those who write to them."""

from collections.abc import Awaitable, Collection
from dataclasses import dataclass
from datetime import UTC
from typing import TypeVar

import asyncpg
import grpc
from lodestream_proto.v1.datasets_pb2 import DatasetSelector

from shared.rules.experiment_ids import dataset_id_of
from shared.runtime.refusal import InvalidError, NotFoundError, RefusedError, UnavailableError
from shared.storage.postgres import DATABASE_ERRORS

Found = TypeVar("Found")
_DATASET = """
SELECT dataset_id, name, datasets.version, datasets.archived, input_schema, expected_output_schema
FROM datasets
JOIN dataset_descriptions USING (project_id, dataset_id)
WHERE project_id = $1 AND dataset_id = $2 AND until_version IS NULL
"""
_VERSION_AT = """
SELECT max(version) FROM dataset_changes WHERE project_id = $1 AND dataset_id = $2 AND changed_at <= $3
"""
_ANY = """
SELECT EXISTS (
    SELECT FROM dataset_items
    WHERE
        project_id = $1 AND dataset_id = $2 AND version <= $3 AND (until_version IS NULL OR until_version > $3)
        AND NOT archived AND ($4::text[] = '{}' OR splits && $4)
)
"""
_ITEMS = """
SELECT item_id FROM dataset_items
WHERE project_id = $1 AND dataset_id = $2 AND item_id = ANY($3) AND until_version IS NULL
"""


@dataclass(frozen=True, slots=True)
class Described:
    """A dataset, and what its items must satisfy now."""

    dataset_id: str
    name: str
    version: int
    archived: bool
    input_schema: str
    expected_output_schema: str

    def refuse_archived(self) -> None:
        """Raises RefusedError when it is archived."""
        if self.archived:
            why = f"dataset {self.name!r} is archived; created again, it is back"
            raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, why)


class Datasets:
    """Finds datasets of a project. All raise UnavailableError when the database does not answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def find(self, project_id: str, name: str) -> Described:
        """The dataset of this name.

        Raises NotFoundError.
        """
        return await self.find_by_id(project_id, dataset_id_of(name), name)

    async def find_by_id(self, project_id: str, dataset_id: str, name: str) -> Described:
        """The dataset of this id; `name` is its name, if that is known.

        Raises NotFoundError.
        """
        row = await _read(self._pool.fetchrow(_DATASET, project_id, dataset_id))
        if row is None:
            raise NotFoundError(f"dataset {name!r}" if name else f"dataset with the id {dataset_id!r}")
        return Described(**row)

    async def version_of(
        self, project_id: str, dataset: Described, selector: DatasetSelector, version: int
    ) -> int | None:
        """The version that is selected, or given; None: neither, so the present one is meant.

        Raises RefusedError: there is none such, or two are named.
        """
        selected: int | None = None
        if selector.HasField("version"):
            selected = selector.version
            if not selected:
                raise InvalidError("dataset.version", "is 0; versions count from 1")
        elif selector.HasField("as_of"):
            selected = await self._version_at(project_id, dataset, selector)
        if selected and version and selected != version:
            raise InvalidError("experiment.dataset_version", f"is {version}, and the dataset's is {selected}")
        found = selected or version or None
        if found and found > dataset.version:
            raise NotFoundError(f"version {found} of dataset {dataset.name!r}: it is at version {dataset.version}")
        return found

    async def refuse_empty(self, project_id: str, dataset: Described, version: int, splits: Collection[str]) -> None:
        """Raises RefusedError when the version has no items in any of these splits; none: at all."""
        if not await _read(self._pool.fetchval(_ANY, project_id, dataset.dataset_id, version, sorted(splits))):
            where = f" in any of the splits {', '.join(map(repr, splits))}" if splits else ""
            why = f"version {version} of dataset {dataset.name!r} has no items{where}"
            raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, why)

    async def find_items(self, project_id: str, dataset: Described, item_ids: Collection[str]) -> None:
        """Raises NotFoundError when the dataset never had one of these items."""
        rows = await _read(self._pool.fetch(_ITEMS, project_id, dataset.dataset_id, list(item_ids)))
        found = {row["item_id"] for row in rows}
        for item_id in item_ids:
            if item_id not in found:
                raise NotFoundError(f"item {item_id!r} in dataset {dataset.name!r}")

    async def _version_at(self, project_id: str, dataset: Described, selector: DatasetSelector) -> int:
        try:
            instant = selector.as_of.ToDatetime(tzinfo=UTC)
        except (ValueError, OverflowError):
            raise InvalidError("dataset.as_of", "is no instant") from None
        found: int | None = await _read(self._pool.fetchval(_VERSION_AT, project_id, dataset.dataset_id, instant))
        if not found:
            raise NotFoundError(f"dataset {dataset.name!r} at {instant.isoformat()}")
        return found


async def _read(reading: Awaitable[Found]) -> Found:
    try:
        return await reading
    except DATABASE_ERRORS as error:
        raise UnavailableError("datasets can't be read: the database does not answer", retry_seconds=5) from error
