"""Runs in the read model, as the projection would have left them, and how they compare."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import grpc
from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.experiment_event_pb2 import ItemEvaluation
from lodestream_proto.v1.experiments_pb2_grpc import ExperimentServiceStub
from lodestream_proto.v1.score_event_pb2 import (
    SCORE_TYPE_BOOLEAN,
    SCORE_TYPE_CATEGORICAL,
    SCORE_TYPE_NUMERIC,
    SCORE_TYPE_TEXT,
)

from services.read.query.experiments.compare import compare
from shared.auth.keys import create_key, create_project
from shared.rules.experiment_ids import dataset_id_of
from shared.storage.postgres import SEARCH_PATH
from tests.support import experiments as told

BEGAN = datetime(2026, 5, 1, tzinfo=UTC)
DATASET = dataset_id_of("questions")
Evaluate = Callable[[int, int], Sequence[ItemEvaluation]]
"""By item and repetition, what evaluators say."""


@dataclass(frozen=True, slots=True)
class Comparing:
    """A project's runs, and what compares them."""

    connection: asyncpg.Connection
    project_id: str

    async def dataset(self, items: int, *, version: int = 1, metadata: Callable[[int], str] = lambda _: "") -> None:
        """The dataset "questions" as it is at a version, with all items the same since its first."""
        await self.connection.execute(
            "INSERT INTO datasets VALUES ($1, $2, 'questions', $3, false, $4, $5, $5)",
            *(self.project_id, DATASET, version, items, BEGAN),
        )
        columns = (
            "project_id dataset_id item_id version first_version archived input expected_output metadata splits author "
            "created_at changed_at"
        )
        await self.connection.copy_records_to_table(
            "dataset_items",
            schema_name="experiments",
            columns=columns.split(),
            records=[
                (
                    self.project_id,
                    DATASET,
                    item_id(n),
                    1,
                    n + 1,
                    False,
                    f'"why {n}?"',
                    "",
                    metadata(n),
                    [],
                    "",
                    BEGAN,
                    BEGAN,
                )
                for n in range(items)
            ],
        )

    async def change_item(self, n: int, version: int) -> None:
        """Another question from a version on."""
        await self.connection.execute(
            "UPDATE dataset_items SET until_version = $3 WHERE project_id = $1 AND item_id = $2",
            *(self.project_id, item_id(n), version),
        )
        await self.connection.execute(
            "INSERT INTO dataset_items SELECT project_id, dataset_id, item_id, $3, NULL, first_version, archived,"
            " '\"how?\"', expected_output, metadata, NULL, NULL, splits, author, created_at, changed_at"
            " FROM dataset_items WHERE project_id = $1 AND item_id = $2",
            *(self.project_id, item_id(n), version),
        )

    async def run(
        self,
        run_id: str,
        items: Sequence[int],
        evaluate: Evaluate = lambda _item, _repetition: [],
        *,
        repetitions: int = 1,
        failed: Sequence[int] = (),
        latency_us: Callable[[int], int] = lambda _: 1_000_000,
        cost_picodollars: int | None = None,
        state: int = pb.EXPERIMENT_STATE_COMPLETED,
        **asked: Any,
    ) -> None:
        """A run and what came of its items."""
        request = told.run(run_id, **{"name": run_id, "repetitions": repetitions} | asked)
        results = []
        for place, (n, repetition) in enumerate((n, each) for n in items for each in range(repetitions)):
            result = told.result(
                run_id,
                item_id(n),
                repetition=repetition,
                trace_id=bytes([1 + n % 200]) * 16,
                evaluations=[] if n in failed else evaluate(n, repetition),
                error="it broke" if n in failed else "",
            )
            results.append((result, BEGAN + timedelta(milliseconds=place), latency_us(n)))
        await self.connection.execute(
            "INSERT INTO experiment_runs VALUES ($1, $2, $3, $4, $5, $6, '', $7, $7, $8, '{}', $9, $10, 0, 0, 0)",
            *(self.project_id, run_id, request.name, request.dataset_id, request.dataset_version, state, BEGAN),
            *(request.SerializeToString(), len(results), sum(bool(result.error) for result, *_ in results)),
        )
        await self.connection.copy_records_to_table(
            "experiment_items",
            schema_name="experiments",
            records=[
                (
                    *(self.project_id, run_id, result.item_id, result.repetition, bool(result.error), latency),
                    *(cost_picodollars, at, result.trace_id, result.SerializeToString()),
                )
                for result, at, latency in results
            ],
        )
        await self.connection.copy_records_to_table(
            "experiment_evaluations",
            schema_name="experiments",
            records=[
                (self.project_id, run_id, said.name, result.item_id, result.repetition, *_columns(said))
                for result, *_ in results
                for said in result.evaluations
            ],
        )

    async def compare(self, baseline: str, *runs: str, **options: Any) -> pb.CompareExperimentsResponse:
        """As the query service compares them, in this process."""
        request = pb.CompareExperimentsRequest(baseline_run_id=baseline, run_ids=runs, **options)
        async with self.connection.transaction(isolation="repeatable_read", readonly=True):
            return await compare(self.connection, self.project_id, request)

    async def ask(self, address: str, baseline: str, *runs: str, **options: Any) -> pb.CompareExperimentsResponse:
        """As a query service answers at an address, within what clients take by default."""
        key = (await create_key(self.connection, self.project_id)).secret_key
        request = pb.CompareExperimentsRequest(baseline_run_id=baseline, run_ids=runs, **options)
        async with grpc.aio.insecure_channel(address) as channel:
            call = ExperimentServiceStub(channel).CompareExperiments
            found: pb.CompareExperimentsResponse = await call(
                request, metadata=(("authorization", f"Bearer {key}"),), timeout=90
            )
        return found


def item_id(n: int) -> str:
    return f"i{n:05}"


def metric(answer: pb.CompareExperimentsResponse, name: str, run_id: str = "") -> pb.MetricComparison:
    """The one of that name, of the first run unless one is named."""
    return next(each for each in answer.metrics if each.metric == name and run_id in {"", each.run_id})


@asynccontextmanager
async def comparing(database: str, project_id: str) -> AsyncIterator[Comparing]:
    """A project of its own in a database."""
    connection = await asyncpg.connect(database, server_settings={"search_path": SEARCH_PATH})
    try:
        await create_project(connection, project_id, project_id)
        yield Comparing(connection, project_id)
    finally:
        await connection.close()


def _columns(said: ItemEvaluation) -> tuple[int, float | None, str | None]:
    """As the projection folds a value: type, number, label."""
    match said.WhichOneof("value"):
        case "numeric":
            return SCORE_TYPE_NUMERIC, said.numeric, None
        case "categorical":
            return SCORE_TYPE_CATEGORICAL, None, said.categorical
        case "boolean":
            return SCORE_TYPE_BOOLEAN, float(said.boolean), "true" if said.boolean else "false"
        case "text":
            return SCORE_TYPE_TEXT, None, said.text
    return 0, None, said.error
