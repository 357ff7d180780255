"""Datasets as their tables have them now, for those who write to them."""

from collections.abc import Awaitable, Collection
from dataclasses import dataclass
from typing import TypeVar

import asyncpg
import grpc

from shared.read_model.experiment_ids import dataset_id_of
from shared.runtime.refusal import NotFoundError, RefusedError, UnavailableError

Found = TypeVar("Found")
_DATASET = """
SELECT dataset_id, name, datasets.version, datasets.archived, input_schema, expected_output_schema
FROM experiments.datasets
JOIN experiments.dataset_descriptions USING (project_id, dataset_id)
WHERE project_id = $1 AND dataset_id = $2 AND until_version IS NULL
"""
_ITEMS = """
SELECT item_id FROM experiments.dataset_items
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
        row = await _read(self._pool.fetchrow(_DATASET, project_id, dataset_id_of(name)))
        if row is None:
            raise NotFoundError(f"dataset {name!r}")
        return Described(**row)

    async def find_items(self, project_id: str, dataset: Described, item_ids: Collection[str]) -> None:
        """Raises NotFoundError when the dataset never had one of these items."""
        rows = await _read(self._pool.fetch(_ITEMS, project_id, dataset.dataset_id, list(item_ids)))
        found = {row["item_id"] for row in rows}
        for item_id in item_ids:
            if item_id not in found:
                raise NotFoundError(f"item {item_id!r} in dataset {dataset.name!r}")


async def _read(reading: Awaitable[Found]) -> Found:
    try:
        return await reading
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise UnavailableError("datasets can't be read: the database does not answer", retry_seconds=5) from error
