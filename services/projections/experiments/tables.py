"""What was decided into the tables, inside the fence's transaction: a few statements a batch, however much is in it."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg

from services.projections.experiments import dataset_rows, run_rows
from services.projections.experiments.dataset_rows import ChangeRow, DatasetRows, DescriptionRow, ItemRow
from services.projections.experiments.decide import Decided
from services.projections.experiments.run_rows import EvaluationRow, ResultRow, RunRows
from shared.storage.postgres import load_sql

_SQL = Path(__file__).parent / "sql"
_UPSERT_DATASET = load_sql(_SQL / "upsert_dataset.sql")
_END_DESCRIPTIONS = load_sql(_SQL / "end_descriptions.sql")
_ARCHIVE_DESCRIPTIONS = load_sql(_SQL / "archive_descriptions.sql")
_END_ITEMS = load_sql(_SQL / "end_items.sql")
_ARCHIVE_ITEMS = load_sql(_SQL / "archive_items.sql")
_INSERT_RUN = load_sql(_SQL / "insert_run.sql")
_UPDATE_RUN = load_sql(_SQL / "update_run.sql")


async def write(connection: asyncpg.Connection, decided: Decided) -> None:
    """Write what was decided of subjects that `load` has locked."""
    await _copy(connection, "experiment_events", ("project_id", "subject_id", "event_id"), decided.events)
    if decided.changes:
        await _write_datasets(connection, dataset_rows.rows_of(decided.changes))
    if decided.steps:
        await _write_runs(connection, run_rows.rows_of(decided.steps))


async def _write_datasets(connection: asyncpg.Connection, rows: DatasetRows) -> None:
    await connection.executemany(_UPSERT_DATASET, [
        (*subject, its.name, its.version, its.archived, its.item_count, its.created_at, its.changed_at)
        for subject, its in sorted(rows.heads.items())
    ])  # fmt: skip
    await _copy(connection, "dataset_changes", ChangeRow._fields, rows.changes)
    await _at_once(connection, _END_DESCRIPTIONS, _keyed(rows.description_until))
    await _copy(connection, "dataset_descriptions", DescriptionRow._fields, rows.descriptions)
    await _at_once(connection, _ARCHIVE_DESCRIPTIONS, rows.archived_descriptions)
    await _at_once(connection, _END_ITEMS, _keyed(rows.item_until))
    await _copy(connection, "dataset_items", ItemRow._fields, rows.items)
    await _at_once(connection, _ARCHIVE_ITEMS, rows.archived_items)


async def _write_runs(connection: asyncpg.Connection, rows: RunRows) -> None:
    new, changed = [], []
    for subject, run in sorted(rows.heads.items()):
        state = (
            run.state, run.reason, run.ended_at, run.run_evaluations, run.items_finished, run.items_failed,
            run.input_tokens, run.output_tokens, run.cost_picodollars,
        )  # fmt: skip
        if its := rows.requested.get(subject):
            body = its.SerializeToString(deterministic=True)
            new.append((*subject, *state, its.name, its.dataset_id, its.dataset_version, run.requested_at, body))
        else:
            changed.append((*subject, *state))
    await connection.executemany(_INSERT_RUN, new)
    await connection.executemany(_UPDATE_RUN, changed)
    await _copy(connection, "experiment_items", ResultRow._fields, rows.results)
    await _copy(connection, "experiment_evaluations", EvaluationRow._fields, rows.evaluations)


def _keyed(versions: Mapping[Any, int]) -> list[tuple[Any, ...]]:
    return [(*key, version) for key, version in sorted(versions.items())]


async def _at_once(connection: asyncpg.Connection, statement: str, rows: Collection[tuple[Any, ...]]) -> None:
    """A statement that takes its rows as columns."""
    if rows:
        await connection.execute(statement, *(list(column) for column in zip(*rows, strict=True)))


async def _copy(
    connection: asyncpg.Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    if rows:
        await connection.copy_records_to_table(table, records=rows, columns=columns)
