"""CompareExperiments: whether a run is better than another, and by how much."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson
from lodestream_proto.v1.experiment_event_pb2 import ExperimentItemFinished, ExperimentRequested
from lodestream_proto.v1.experiments_pb2 import CompareExperimentsRequest, CompareExperimentsResponse

from services.read.query.database import connect_snapshot
from services.read.query.experiments.runs import find_run, messages_of
from services.read.query.experiments.summaries import QUERIES, Row, Summaries
from services.read.query.filters import lookable, required
from services.read.query.read_context import COMPARISONS
from services.read.query.work_process import WorkProcesses
from shared.runtime.fairness import FairLimiter
from shared.runtime.refusal import InvalidError
from shared.runtime.settings import QuerySettings

_ITEMS = QUERIES["compare_items"]
_EVALUATIONS = QUERIES["compare_evaluations"]
_NAMES = QUERIES["compare_names"]
_DATASET_ITEMS = QUERIES["compare_dataset_items"]
_OWN_ITEMS = QUERIES["compare_own_items"]
_FAILURES = QUERIES["compare_failures"]
_FIRST_AND_LAST = QUERIES["compare_first_and_last"]
_AT_ONCE, _LARGE_AT_ONCE = 2_000, 50
_MAX_FAILURES = 1_000
_SAMPLE = 50
PREVIEW = 200
"""Characters of an input or an error that are shown."""
_MAX_VALUES = 2_000_000
"""Items by repetitions by metrics of an answer: more would not fit the memory of a small process."""
MAX_RUNS, MAX_NAMES = 10, 200
OWN_METRICS = ("errors", "latency", "cost")
"""Metrics that every run has, without an evaluator."""
_MIN_CONFIDENCE, _MAX_CONFIDENCE, _DEFAULT_CONFIDENCE = 0.5, 0.9999, 0.95


@dataclass(frozen=True, slots=True)
class ComparisonRequest:
    """A checked request; only whether its runs and metrics exist is left to check."""

    baseline_id: str
    run_ids: tuple[str, ...]
    metrics: tuple[str, ...]
    lower_is_better: tuple[str, ...]
    segment_by: tuple[str, ...]
    confidence: float
    seed: int

    def names_to_compare(self, evaluations: AbstractSet[str]) -> list[str]:
        """Return which evaluations are compared, of the names of those that any run has.

        Raises InvalidError for a metric that no run has: a misspelt name must not look like no difference.
        """
        metrics = {metric_name(name) for name in evaluations} | set(OWN_METRICS)
        for path, requested in (("metrics", self.metrics), ("lower_is_better", self.lower_is_better)):
            for n, name in enumerate(requested):
                if name not in metrics:
                    raise InvalidError(f"{path}[{n}]", f"no run has {name!r}; there are {', '.join(sorted(metrics))}")
        return sorted(name for name in evaluations if not self.metrics or metric_name(name) in self.metrics)


@dataclass(frozen=True, slots=True)
class DatasetItem:
    """An item of the data that a run is over."""

    metadata: str
    input_preview: str
    digest: str = ""
    """A digest of the input and the expected output; empty where they are not known."""


@dataclass(frozen=True, slots=True)
class RunData:
    """A run with its results."""

    run_id: str
    request: ExperimentRequested
    row: Row
    items: Mapping[str, Row]
    """Rows of compare_items, by item."""
    evaluations: Sequence[Row]
    """Rows of compare_evaluations."""
    dataset_items: Mapping[str, DatasetItem] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    """The errors of items that failed; of many only some."""
    revisions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The revisions of evaluators by the name of their evaluation, among the first and the last results."""

    @property
    def name(self) -> str:
        """The run's name in sentences."""
        return repr(self.request.name or self.run_id)


class Comparisons:
    """The comparisons of one service, few at a time, each in a process of its own."""

    def __init__(self, dsn: str, settings: QuerySettings, turns: FairLimiter) -> None:
        self._dsn, self._settings, self._turns = dsn, settings, turns
        self._processes = WorkProcesses(COMPARISONS)

    async def compare_experiments(
        self, project_id: str, request: CompareExperimentsRequest
    ) -> CompareExperimentsResponse:
        """Compare candidates with a baseline.

        Raises RefusedError: a field can't be used, the project has no such run, or it compares too much at once.
        """
        read_request(request)  # what can't be used is refused before it waits for its turn
        async with self._turns.hold(project_id):
            answer = await self._processes.run(
                compare_in_process, self._dsn, self._settings, project_id, request.SerializeToString()
            )
        return CompareExperimentsResponse.FromString(answer)

    def close(self) -> None:
        """End the processes."""
        self._processes.close()


async def compare_in_process(dsn: str, settings: QuerySettings, project_id: str, request: bytes) -> bytes:
    """Answer a serialized CompareExperimentsRequest with a connection of its own; see `compare`."""
    async with connect_snapshot(dsn, settings) as connection:
        response = await compare(connection, project_id, CompareExperimentsRequest.FromString(request))
    return response.SerializeToString()


async def compare(
    connection: asyncpg.Connection, project_id: str, request: CompareExperimentsRequest
) -> CompareExperimentsResponse:
    """Compare candidates with a baseline, all as they are in the connection's snapshot.

    Raises RefusedError as `Comparisons.compare_experiments` does.
    """
    # SciPy takes seconds to import: with the first comparison of a process.
    from services.read.query.experiments.comparison_response import response_of

    checked = read_request(request)
    run_ids = {"baseline_run_id": checked.baseline_id} | {f"run_ids[{n}]": id_ for n, id_ in enumerate(checked.run_ids)}
    rows = [await find_run(connection, project_id, run_id, field=field) for field, run_id in run_ids.items()]
    all_evaluations = await evaluation_names(connection, project_id, [row["run_id"] for row in rows])
    evaluations = checked.names_to_compare(all_evaluations)
    values = sum(row["items_finished"] for row in rows) * max(1, len(evaluations))
    if values > _MAX_VALUES:
        raise InvalidError("metrics", f"about {values:,} values; at most {_MAX_VALUES:,}: ask for fewer or fewer runs")
    runs = await messages_of(connection, project_id, rows, Summaries())
    return response_of(checked, runs, [await read_run(connection, project_id, row, evaluations) for row in rows])


def metric_name(name: str) -> str:
    """Return the metric's name of an evaluation: one with the name of a run's own metric gets another."""
    return f"{name} evaluation" if name in OWN_METRICS else name


def read_request(request: CompareExperimentsRequest) -> ComparisonRequest:
    """Check a request.

    Raises InvalidError naming the field that can't be used.
    """
    baseline_id = required("baseline_run_id", request.baseline_run_id)
    if not 1 <= len(request.run_ids) <= MAX_RUNS:
        raise InvalidError("run_ids", f"{len(request.run_ids)} runs; 1 to {MAX_RUNS} can be compared with a baseline")
    for n, run_id in enumerate(request.run_ids):
        required(f"run_ids[{n}]", run_id)
        if run_id == baseline_id:
            raise InvalidError(f"run_ids[{n}]", "it is the baseline")
        if run_id in request.run_ids[:n]:
            raise InvalidError(f"run_ids[{n}]", f"{run_id!r} is there twice")
    confidence = request.confidence or _DEFAULT_CONFIDENCE
    if not _MIN_CONFIDENCE <= confidence <= _MAX_CONFIDENCE:  # nor is NaN
        raise InvalidError("confidence", f"{confidence} is not from {_MIN_CONFIDENCE} to {_MAX_CONFIDENCE}")
    return ComparisonRequest(
        baseline_id,
        tuple(request.run_ids),
        _names(request.metrics, "metrics"),
        _names(request.lower_is_better, "lower_is_better"),
        _names(request.segment_by, "segment_by"),
        confidence,
        request.seed,
    )


def _names(names: object, field: str) -> tuple[str, ...]:
    unique = tuple(dict.fromkeys(names))  # type: ignore[call-overload]
    if len(unique) > MAX_NAMES:
        raise InvalidError(field, f"{len(unique)} names; at most {MAX_NAMES}")
    return tuple(lookable(f"{field}[{n}]", required(f"{field}[{n}]", name)) for n, name in enumerate(unique))


async def evaluation_names(connection: asyncpg.Connection, project_id: str, run_ids: Sequence[str]) -> set[str]:
    """Return the names of the evaluations that any of some runs has."""
    return {row["name"] for row in await connection.fetch(_NAMES, project_id, list(run_ids))}


async def read_run(connection: asyncpg.Connection, project_id: str, row: Row, names: Sequence[str]) -> RunData:
    """Read what is compared of a run; of its evaluations those with these names."""
    run_id, request = row["run_id"], ExperimentRequested.FromString(row["request"])
    items = {each["item_id"]: each for each in await _rows(connection, _ITEMS, project_id, run_id)}
    evaluations = await _rows(connection, _EVALUATIONS, project_id, run_id, list(names))
    return RunData(
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
    """Return all rows, fetched some at a time: each fetch may take as long as a statement."""
    return [row async for row in connection.cursor(statement, *parameters, prefetch=_AT_ONCE)]


async def _dataset_items(connection: asyncpg.Connection, project_id: str, row: Row) -> dict[str, DatasetItem]:
    if row["dataset_id"]:
        rows = await _rows(connection, _DATASET_ITEMS, project_id, row["dataset_id"], row["dataset_version"], PREVIEW)
        return {each["item_id"]: DatasetItem(each["metadata"], each["input_preview"], each["digest"]) for each in rows}
    own = {}
    async for each in connection.cursor(_OWN_ITEMS, project_id, row["run_id"], prefetch=_LARGE_AT_ONCE):
        result = ExperimentItemFinished.FromString(each["result"])
        own[each["item_id"]] = DatasetItem(result.metadata_json, result.input_json[:PREVIEW])
    return own


async def _failures(connection: asyncpg.Connection, project_id: str, run_id: str) -> dict[str, str]:
    failures = {}
    async for row in connection.cursor(_FAILURES, project_id, run_id, _MAX_FAILURES, prefetch=_LARGE_AT_ONCE):
        failures[row["item_id"]] = ExperimentItemFinished.FromString(row["result"]).error[:PREVIEW]
    return failures


async def _revisions(connection: asyncpg.Connection, project_id: str, run_id: str) -> dict[str, frozenset[str]]:
    revisions: dict[str, frozenset[str]] = {}
    async for row in connection.cursor(_FIRST_AND_LAST, project_id, run_id, _SAMPLE, prefetch=_LARGE_AT_ONCE):
        for evaluation in ExperimentItemFinished.FromString(row["result"]).evaluations:
            if revision := evaluation.evaluator_version:
                revisions[evaluation.name] = revisions.get(evaluation.name, frozenset()) | {revision}
    return revisions


def metadata_of(item: DatasetItem) -> dict[str, str]:
    """Return what segments can be made by: texts as they are, other single values as JSON; no lists, no objects."""
    try:
        metadata = orjson.loads(item.metadata or "{}")
    except orjson.JSONDecodeError:
        return {}
    return {
        key: value if isinstance(value, str) else orjson.dumps(value).decode()
        for key, value in (metadata.items() if isinstance(metadata, dict) else ())
        if not isinstance(value, list | dict)
    }
