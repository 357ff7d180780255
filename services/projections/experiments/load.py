"""What the tables hold of the subjects of commands, inside the fence's transaction."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import asyncpg
from lodestream_proto.v1.experiment_event_pb2 import ExperimentItemFinished

from services.projections.experiments.commands import AboutDataset, Command, Subject
from services.projections.experiments.content import digest
from services.projections.experiments.datasets import Dataset, Item
from services.projections.experiments.decide import Known, item_key, result_key
from services.projections.experiments.runs import Run
from shared.storage.postgres import load_sql

_SQL = Path(__file__).parent / "sql"
_LOCK_DATASETS = load_sql(_SQL / "lock_datasets.sql")
_LOCK_RUNS = load_sql(_SQL / "lock_runs.sql")
_LOAD_DESCRIPTIONS = load_sql(_SQL / "load_descriptions.sql")
_LOAD_ITEMS = load_sql(_SQL / "load_items.sql")
_LOAD_LAST_RESULTS = load_sql(_SQL / "load_last_results.sql")
_LOAD_RESULTS = load_sql(_SQL / "load_results.sql")
_LOAD_EVENTS = load_sql(_SQL / "load_events.sql")


async def load(connection: asyncpg.Connection, commands: Sequence[Command]) -> Known:
    """What commands ask for. Their datasets and runs are locked first, in key order, so that writers of the same ones
    queue, never deadlock, and see all that was decided before.
    """
    known = Known()
    about_datasets = [(its.subject, its.payload) for its in commands if isinstance(its.payload, AboutDataset)]
    about_runs = [(its.subject, its.payload) for its in commands if not isinstance(its.payload, AboutDataset)]
    datasets = await _rows(connection, _LOCK_DATASETS, {subject for subject, _ in about_datasets})
    runs = await _rows(connection, _LOCK_RUNS, {subject for subject, _ in about_runs})
    known.events = {
        tuple(row) for row in await _rows(connection, _LOAD_EVENTS, {(*its.subject, its.event_id) for its in commands})
    }
    if datasets:
        await _load_datasets(connection, known, datasets)
        there = known.datasets.keys()
        await _load_items(connection, known, [told for told in about_datasets if told[0] in there])
    if runs:
        await _load_runs(connection, known, runs)
        keys = {
            result_key(subject, payload)
            for subject, payload in about_runs
            if subject in known.runs and isinstance(payload, ExperimentItemFinished)
        }
        known.results = {tuple(row) for row in await _rows(connection, _LOAD_RESULTS, keys)}
    return known


async def _load_datasets(connection: asyncpg.Connection, known: Known, heads: Sequence[asyncpg.Record]) -> None:
    described = {}
    for row in await _rows(connection, _LOAD_DESCRIPTIONS, {(row["project_id"], row["dataset_id"]) for row in heads}):
        schemas = row["input_schema"], row["expected_output_schema"]
        its = digest((row["metadata"], *schemas), row["description"])
        described[row["project_id"], row["dataset_id"]] = its
    for row in heads:
        subject = row["project_id"], row["dataset_id"]
        known.datasets[subject] = Dataset(
            name=row["name"], version=row["version"], archived=row["archived"], item_count=row["item_count"],
            description=described[subject], created_at=row["created_at"], changed_at=row["changed_at"],
        )  # fmt: skip


async def _load_items(
    connection: asyncpg.Connection, known: Known, told: Sequence[tuple[Subject, AboutDataset]]
) -> None:
    """By a cursor: of what items say, which may be much, only the digests stay."""
    keys = {key for subject, payload in told if (key := item_key(subject, payload))}
    if not keys:
        return
    async for row in connection.cursor(_LOAD_ITEMS, *_columns(keys), prefetch=200):
        texts = row["input"], row["expected_output"], row["metadata"]
        ids = [(row[column] or b"").hex() for column in ("source_trace_id", "source_span_id")]
        known.items[row["project_id"], row["dataset_id"], row["item_id"]] = Item(
            version=row["version"],
            first_version=row["first_version"],
            archived=row["archived"],
            content=digest(texts, *ids, *row["splits"]),
            created_at=row["created_at"],
        )


async def _load_runs(connection: asyncpg.Connection, known: Known, heads: Sequence[asyncpg.Record]) -> None:
    subjects = {(row["project_id"], row["run_id"]) for row in heads}
    last = {
        (row["project_id"], row["run_id"]): row["finished_at"]
        for row in await _rows(connection, _LOAD_LAST_RESULTS, subjects)
    }
    for row in heads:
        subject = row["project_id"], row["run_id"]
        instants = row["requested_at"], row["ended_at"], last.get(subject)
        known.runs[subject] = Run(
            requested_at=row["requested_at"],
            last_at=max(instant for instant in instants if instant),
            state=row["state"],
            reason=row["reason"],
            ended_at=row["ended_at"],
            run_evaluations=tuple(row["run_evaluations"]),
            items_finished=row["items_finished"],
            items_failed=row["items_failed"],
            input_tokens=row["input_tokens"],
            output_tokens=row["output_tokens"],
            cost_picodollars=int(row["cost_picodollars"]),
        )


async def _rows(connection: asyncpg.Connection, query: str, keys: Collection[tuple[Any, ...]]) -> list[asyncpg.Record]:
    return list(await connection.fetch(query, *_columns(keys))) if keys else []


def _columns(keys: Collection[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*sorted(keys), strict=True)]
