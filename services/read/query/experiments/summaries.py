"""What a run's finished items come to: latencies and evaluations. Remembered, for a large run's take a while."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested
from lodestream_proto.v1.experiments_pb2 import EvaluationSummary
from lodestream_proto.v1.score_event_pb2 import SCORE_TYPE_BOOLEAN, SCORE_TYPE_NUMERIC

from services.read.query.experiments.memory import Memory
from shared.read_model.postgres import load_sql

SQL = Path(__file__).parent / "sql"
_COUNT_ITEMS = load_sql(SQL / "count_items.sql")
_SUMMARIZE_ITEMS = load_sql(SQL / "summarize_items.sql")
_SUMMARIZE_EVALUATIONS = load_sql(SQL / "summarize_evaluations.sql")
_ITEMS_AT_ONCE = 100_000
"""Finished ones of several runs, in one statement."""
_FAILED = 0
"""The type of an evaluation whose evaluator failed."""
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Summary:
    """Of the finished items of a run."""

    latency_p50_us: int = 0
    latency_p95_us: int = 0
    is_priced: bool = False
    """Whether any item's price is known."""
    evaluations: Sequence[EvaluationSummary] = ()


class Summaries:
    """Summaries of the runs of one database.

    A run's items are told in one partition, so that their number tells which they are; and a dataset's version is exact
    for ever. So what is remembered stays true; it is forgotten all the same, for a read model may be rebuilt.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._summaries = Memory[Summary](clock)
        self._totals = Memory[int](clock)

    async def of_runs(self, connection: asyncpg.Connection, project_id: str, rows: Sequence[Row]) -> dict[str, Summary]:
        """By run, of rows that were read in the same snapshot."""
        found: dict[str, Summary] = {}
        missing = []
        for row in rows:
            if known := self._summaries.get(_key(project_id, row)):
                found[row["run_id"]] = known
            else:
                missing.append(row)
        for batch in _batches(missing):  # each within a statement's time; what is done then is remembered if one is not
            summaries = await _summarize(connection, project_id, [row["run_id"] for row in batch])
            for row in batch:
                found[row["run_id"]] = summary = summaries[row["run_id"]]
                self._summaries.put(_key(project_id, row), summary)
        return found

    async def items_total(
        self, connection: asyncpg.Connection, project_id: str, row: Row, request: ExperimentRequested
    ) -> int:
        """Items by repetitions of a run; 0 while it is not known."""
        if not row["dataset_id"]:
            return int(row["items_finished"]) if row["ended_at"] else 0
        if not is_dataset_known(row):
            return 0
        repetitions = max(1, request.repetitions)
        if row["dataset_now"] == row["dataset_version"] and not request.splits:
            return int(row["dataset_items"]) * repetitions
        key = project_id, row["dataset_id"], row["dataset_version"], tuple(request.splits)
        items = self._totals.get(key)
        if items is None:
            items = int(await connection.fetchval(_COUNT_ITEMS, *key[:3], list(request.splits)))
            self._totals.put(key, items)
        return items * repetitions


def _key(project_id: str, row: Row) -> tuple[str, str, int]:
    return project_id, row["run_id"], row["items_finished"]


def _batches(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    begin, items = 0, 0
    for n, row in enumerate(rows, 1):
        items += row["items_finished"]
        if items >= _ITEMS_AT_ONCE or n == len(rows):
            yield rows[begin:n]
            begin, items = n, 0


def is_dataset_known(row: Row) -> bool:
    """Whether the run is over a dataset, and that is folded up to the run's version; it is folded apart from runs."""
    return bool(row["dataset_now"] and row["dataset_now"] >= row["dataset_version"])


async def _summarize(connection: asyncpg.Connection, project_id: str, run_ids: list[str]) -> dict[str, Summary]:
    items = {row["run_id"]: row for row in await connection.fetch(_SUMMARIZE_ITEMS, project_id, run_ids)}
    said: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in await connection.fetch(_SUMMARIZE_EVALUATIONS, project_id, run_ids):
        said[row["run_id"]][row["name"]].append(row)
    found = {}
    for run_id in run_ids:
        its = items.get(run_id)
        p50, p95 = its["latencies"] if its else (0, 0)
        evaluations = [evaluation_summary(name, rows) for name, rows in said[run_id].items()]
        found[run_id] = Summary(p50, p95, bool(its and its["priced"]), evaluations)
    return found


def evaluation_summary(name: str, rows: Sequence[Row]) -> EvaluationSummary:
    """Rows of summarize_evaluations.sql of one name."""
    summary = EvaluationSummary(name=name)
    total, numbers = Decimal(0), 0
    for row in rows:
        if row["type"] == _FAILED:
            summary.errors += row["given"]
            continue
        summary.count += row["given"]
        if row["label"] is not None:
            summary.counts[row["label"]] += row["given"]
        if row["type"] == SCORE_TYPE_NUMERIC:
            total, numbers = total + row["total"], numbers + row["given"]
        elif row["type"] == SCORE_TYPE_BOOLEAN:
            total, numbers = total + (row["given"] if row["label"] == "true" else 0), numbers + row["given"]
    if numbers:
        summary.mean = float(total / numbers)
    return summary
