"""What a run's finished items come to: latencies and evaluations. Remembered, for a large run's take a while."""

import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Generic, TypeVar

import asyncpg
from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested
from lodestream_proto.v1.experiments_pb2 import EvaluationSummary
from lodestream_proto.v1.score_event_pb2 import SCORE_TYPE_BOOLEAN, SCORE_TYPE_NUMERIC

from shared.runtime.lru_cache import LruCache
from shared.storage.named_queries import load_queries

QUERIES = load_queries(Path(__file__).with_name("experiments.sql"))
"""The queries of this folder."""
_COUNT_ITEMS = QUERIES["count_items"]
_SUMMARIZE_ITEMS = QUERIES["summarize_items"]
_SUMMARIZE_EVALUATIONS = QUERIES["summarize_evaluations"]
_ITEMS_AT_ONCE = 100_000
"""Finished items of several runs that one statement summarizes."""
_FAILED = 0
"""The type of an evaluation whose evaluator failed."""
Row = Mapping[str, Any]
T = TypeVar("T")
_CACHE_SIZE, _CACHE_SECONDS = 2_000, 60.0


@dataclass(frozen=True, slots=True)
class Summary:
    """What the finished items of a run come to."""

    latency_p50_us: int = 0
    latency_p95_us: int = 0
    is_priced: bool = False
    """Whether any item's price is known."""
    evaluations: Sequence[EvaluationSummary] = ()


class ExpiringCache(Generic[T]):
    """The values that were used last: at most so many, each for at most so many seconds."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, size: int = _CACHE_SIZE, seconds: float = _CACHE_SECONDS
    ) -> None:
        self._clock, self._seconds = clock, seconds
        self._entries: LruCache[Hashable, tuple[float, T]] = LruCache(size)

    def get(self, key: Hashable) -> T | None:
        """Return the value of a key; None if it was never put, has expired or had to make room."""
        entry = self._entries.get(key)
        return None if entry is None or self._clock() - entry[0] > self._seconds else entry[1]

    def put(self, key: Hashable, value: T) -> None:
        """Keep a value; the one that was used the longest ago makes room for it."""
        self._entries[key] = self._clock(), value


class Summaries:
    """Summaries of the runs of one database.

    A run's items come in one partition, so that their number says which they are; and what a dataset's version holds
    never changes. So what is cached stays true; it expires all the same, for a read model may be rebuilt.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._summaries = ExpiringCache[Summary](clock)
        self._totals = ExpiringCache[int](clock)

    async def of_runs(self, connection: asyncpg.Connection, project_id: str, rows: Sequence[Row]) -> dict[str, Summary]:
        """Return the summaries by run, given rows that were read in the same snapshot."""
        by_run: dict[str, Summary] = {}
        missing = []
        for row in rows:
            if cached := self._summaries.get(_key(project_id, row)):
                by_run[row["run_id"]] = cached
            else:
                missing.append(row)
        for batch in _batches(missing):  # each within a statement's time; what is done then is remembered if one is not
            summaries = await _summarize(connection, project_id, [row["run_id"] for row in batch])
            for row in batch:
                by_run[row["run_id"]] = summary = summaries[row["run_id"]]
                self._summaries.put(_key(project_id, row), summary)
        return by_run

    async def items_total(
        self, connection: asyncpg.Connection, project_id: str, row: Row, request: ExperimentRequested
    ) -> int:
        """Return the number of items times repetitions that a run has; 0 while it is not known."""
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
    """Return whether a run is over a dataset that is folded up to the run's version; it is folded apart from runs."""
    return bool(row["dataset_now"] and row["dataset_now"] >= row["dataset_version"])


async def _summarize(connection: asyncpg.Connection, project_id: str, run_ids: list[str]) -> dict[str, Summary]:
    items = {row["run_id"]: row for row in await connection.fetch(_SUMMARIZE_ITEMS, project_id, run_ids)}
    evaluations: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in await connection.fetch(_SUMMARIZE_EVALUATIONS, project_id, run_ids):
        evaluations[row["run_id"]][row["name"]].append(row)
    summaries = {}
    for run_id in run_ids:
        row = items.get(run_id)
        p50, p95 = row["latencies"] if row else (0, 0)
        of_run = [evaluation_summary(name, rows) for name, rows in evaluations[run_id].items()]
        summaries[run_id] = Summary(p50, p95, bool(row and row["priced"]), of_run)
    return summaries


def evaluation_summary(name: str, rows: Sequence[Row]) -> EvaluationSummary:
    """Return the summary of one name's rows of summarize_evaluations."""
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
