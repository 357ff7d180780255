"""What is read of a run, in one snapshot with the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson
from lodestream_proto.v1.experiment_event_pb2 import ExperimentItemFinished, ExperimentRequested

from services.read.query.experiments.summaries import SQL, Row
from shared.read_model.postgres import load_sql

_ITEMS = load_sql(SQL / "compare_items.sql")
_EVALUATIONS = load_sql(SQL / "compare_evaluations.sql")
_NAMES = load_sql(SQL / "compare_names.sql")
_DATASET_ITEMS = load_sql(SQL / "compare_dataset_items.sql")
_OWN_ITEMS = load_sql(SQL / "compare_own_items.sql")
_FAILURES = load_sql(SQL / "compare_failures.sql")
_FIRST_AND_LAST = load_sql(SQL / "compare_first_and_last.sql")
_AT_ONCE, _LARGE_AT_ONCE = 2_000, 50
_MOST_FAILURES = 1_000
_SAMPLE = 50
PREVIEW = 200
"""Characters of an input or an error that are shown."""


@dataclass(frozen=True, slots=True)
class DatasetItem:
    """What an item of a run's data is."""

    metadata: str
    input_preview: str
    digest: str = ""
    """Of what was asked and expected; empty where it is not known."""


@dataclass(frozen=True, slots=True)
class RunRead:
    """A run, and what came of it."""

    run_id: str
    request: ExperimentRequested
    row: Row
    items: Mapping[str, Row]
    """Rows of compare_items.sql."""
    evaluations: Sequence[Row]
    """Rows of compare_evaluations.sql."""
    dataset_items: Mapping[str, DatasetItem] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    """Why items failed; of many only some."""
    revisions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Of evaluators, by the name of what they said, among the first and the last results."""

    @property
    def name(self) -> str:
        """As it is named in sentences."""
        return repr(self.request.name or self.run_id)


async def evaluation_names(connection: asyncpg.Connection, project_id: str, run_ids: Sequence[str]) -> set[str]:
    """Under which evaluators said something of any of the runs' items."""
    return {row["name"] for row in await connection.fetch(_NAMES, project_id, list(run_ids))}


async def read_run(connection: asyncpg.Connection, project_id: str, row: Row, names: Sequence[str]) -> RunRead:
    """All that is compared of a run: what evaluators said under these names, or under all."""
    run_id, request = row["run_id"], ExperimentRequested.FromString(row["request"])
    items = {each["item_id"]: each for each in await _rows(connection, _ITEMS, project_id, run_id)}
    evaluations = await _rows(connection, _EVALUATIONS, project_id, run_id, list(names))
    return RunRead(
        run_id,
        request,
        row,
        items,
        evaluations,
        await _dataset_items(connection, project_id, row),
        await _failures(connection, project_id, run_id),
        await _revisions(connection, project_id, run_id),
    )


async def _rows(connection: asyncpg.Connection, statement: str, *parameters: Any) -> list[asyncpg.Record]:
    """All rows; others are served between those of one fetch and the next."""
    return [row async for row in connection.cursor(statement, *parameters, prefetch=_AT_ONCE)]


async def _dataset_items(connection: asyncpg.Connection, project_id: str, row: Row) -> dict[str, DatasetItem]:
    if row["dataset_id"]:
        found = await _rows(connection, _DATASET_ITEMS, project_id, row["dataset_id"], row["dataset_version"], PREVIEW)
        return {each["item_id"]: DatasetItem(each["metadata"], each["input_preview"], each["digest"]) for each in found}
    own = {}
    async for each in connection.cursor(_OWN_ITEMS, project_id, row["run_id"], prefetch=_LARGE_AT_ONCE):
        result = ExperimentItemFinished.FromString(each["result"])
        own[each["item_id"]] = DatasetItem(result.metadata_json, result.input_json[:PREVIEW])
    return own


async def _failures(connection: asyncpg.Connection, project_id: str, run_id: str) -> dict[str, str]:
    failures = {}
    async for row in connection.cursor(_FAILURES, project_id, run_id, _MOST_FAILURES, prefetch=_LARGE_AT_ONCE):
        failures[row["item_id"]] = ExperimentItemFinished.FromString(row["result"]).error[:PREVIEW]
    return failures


async def _revisions(connection: asyncpg.Connection, project_id: str, run_id: str) -> dict[str, frozenset[str]]:
    revisions: dict[str, frozenset[str]] = {}
    async for row in connection.cursor(_FIRST_AND_LAST, project_id, run_id, _SAMPLE, prefetch=_LARGE_AT_ONCE):
        for said in ExperimentItemFinished.FromString(row["result"]).evaluations:
            if said.evaluator_version:
                revisions[said.name] = revisions.get(said.name, frozenset()) | {said.evaluator_version}
    return revisions


def metadata_of(item: DatasetItem) -> dict[str, str]:
    """What an item can be looked at by: texts as they are, other single values as JSON; no lists, no objects."""
    try:
        told = orjson.loads(item.metadata or "{}")
    except orjson.JSONDecodeError:
        return {}
    return {
        key: value if isinstance(value, str) else orjson.dumps(value).decode()
        for key, value in (told.items() if isinstance(told, dict) else ())
        if not isinstance(value, list | dict)
    }
