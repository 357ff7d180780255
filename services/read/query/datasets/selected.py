"""Which dataset, and which version of it, a request means."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import asyncpg
from lodestream_proto.v1.datasets_pb2 import DatasetSelector

from services.read.query.filters import required, to_datetime
from shared.read_model.named_queries import load_queries
from shared.runtime.refusal import InvalidError, NotFoundError

QUERIES = load_queries(Path(__file__).with_name("datasets.sql"))
_FIND_DATASET = QUERIES["find_dataset"]
_VERSION_AT = QUERIES["version_at"]
_NAMES = "SELECT name FROM datasets WHERE project_id = $1 AND NOT archived ORDER BY name LIMIT 1000"
_HINTS = 3
_MAX_VERSION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Selected:
    """A dataset's row, and the version that is meant."""

    dataset: asyncpg.Record
    version: int

    @property
    def dataset_id(self) -> str:
        found: str = self.dataset["dataset_id"]
        return found

    @property
    def is_present(self) -> bool:
        """Whether this is how the dataset is now, in the transaction that found it."""
        return self.version == int(self.dataset["version"])


async def select(connection: asyncpg.Connection, project_id: str, selector: DatasetSelector) -> Selected:
    """The dataset and the version that are meant.

    Raises RefusedError: the selector can't be, or the project has, or had then, nothing it selects.
    """
    row = await find_dataset(connection, project_id, selector.name, field="dataset.name")
    match selector.WhichOneof("when"):
        case "version":
            return Selected(row, _checked(row, selector.version))
        case "as_of":
            instant = to_datetime("dataset.as_of", selector.as_of)
            version = await connection.fetchval(_VERSION_AT, project_id, row["dataset_id"], instant)
            if version is None:
                since = row["created_at"].isoformat()
                raise NotFoundError(f"dataset {selector.name!r} at {instant.isoformat()}: it was created at {since}")
            return Selected(row, version)
    return Selected(row, row["version"])


async def find_dataset(connection: asyncpg.Connection, project_id: str, name: str, *, field: str) -> asyncpg.Record:
    """A row of find_dataset.

    Raises RefusedError: NOT_FOUND, naming what there is instead.
    """
    row = await connection.fetchrow(_FIND_DATASET, project_id, required(field, name))
    if row is None:
        names = [each["name"] for each in await connection.fetch(_NAMES, project_id)]
        raise NotFoundError(f"dataset {name!r}: {_instead(name, names)}")
    return row


def _checked(row: asyncpg.Record, version: int) -> int:
    if not 0 < version <= _MAX_VERSION:
        raise InvalidError("dataset.version", f"{version} is none: they are counted from 1")
    if version > row["version"]:
        raise NotFoundError(f"version {version} of dataset {row['name']!r}: it is at version {row['version']}")
    return version


def _instead(name: str, names: list[str]) -> str:
    if not names:
        return "it has no datasets"
    hints = get_close_matches(name, names, n=_HINTS) or names[:_HINTS]
    more = " among others" if len(names) > len(hints) else ""
    return f"it has {', '.join(map(repr, hints))}{more}"
