"""What a page of datasets, items, changes or runs costs is what it shows: few rows, by an index, in order."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest
from lodestream_proto.v1 import datasets_pb2, experiments_pb2
from lodestream_proto.v1.datasets_pb2 import DatasetSelector

from benchmarks.reads.plans import Head, head_of
from services.read.query.datasets import (
    SelectedDataset,
    dataset_history_statement,
    list_datasets_statement,
    list_items_statement,
)
from services.read.query.experiments import items, runs
from services.read.query.experiments.items import ItemOrder, ItemPosition
from services.read.query.experiments.summaries import QUERIES
from services.read.query.experiments.watch import THE_BEGINNING
from services.read.query.filters import Statement
from services.read.query.paging import to_token, without_paging
from shared.storage.postgres import SEARCH_PATH
from tests.support.experiment_reading import database_of_its_own
from tests.support.servers import Servers

BEGAN = datetime(2026, 5, 1, tzinfo=UTC)
ITEMS, RUNS = 5_000, 2_000
# A dataset "big" whose every item was recorded twice and the first half archived at last, among 2,000 small ones; runs
# over it and over another one, the last ten with a result of each item.
MAKE = """
INSERT INTO datasets
SELECT 'p', md5('name ' || n), 'name ' || lpad(n::text, 4, '0'), 1, n % 10 = 0, 0, $1, $1
FROM generate_series(1, 2000) AS n;
INSERT INTO datasets VALUES ('p', 'big', 'big', 2 * $2::int + $2::int / 2, false, $2::int / 2, $1, $1);
INSERT INTO dataset_descriptions
SELECT 'p', dataset_id, 1, NULL, archived, '', '', '', '' FROM datasets;
INSERT INTO dataset_items
SELECT
    'p', 'big', md5(n::text), n + again * $2::int, CASE WHEN again < 1 THEN n + $2::int END, n, false, '"?"', '', '',
    NULL, NULL, '{}', '', $1, $1
FROM generate_series(1, $2::int) AS n, generate_series(0, 1) AS again;
UPDATE dataset_items SET until_version = 2 * $2::int + first_version
WHERE until_version IS NULL AND first_version <= $2::int / 2;
INSERT INTO dataset_items
SELECT
    'p', 'big', item_id, until_version, NULL, first_version, true, input, '', '', NULL, NULL, '{}', '', $1, $1
FROM dataset_items WHERE until_version > 2 * $2::int;
INSERT INTO dataset_changes
SELECT 'p', 'big', version, 3, item_id, '', $1 + version * interval '1 s' FROM dataset_items;
INSERT INTO experiment_runs
SELECT
    'p', 'run-' || n, 'nightly', CASE WHEN n % 2 = 0 THEN 'big' ELSE md5('name 1') END, 2 * $2::int, 3, '',
    $1 + n * interval '1 s', NULL, '', '{}', 0, 0, 0, 0, 0
FROM generate_series(1, $3::int) AS n;
INSERT INTO experiment_items
SELECT 'p', 'run-' || run, md5(n::text), 0, n % 100 = 0, n, NULL, $1 + n * interval '1 ms', NULL, ''
FROM generate_series(1, $2::int) AS n, generate_series(1990, 1999) AS run;
"""


@pytest.fixture(scope="module")
async def connection(servers: Servers, template: str) -> AsyncIterator[asyncpg.Connection]:
    """A session as the query service has it."""
    settings = {"search_path": SEARCH_PATH, "plan_cache_mode": "force_custom_plan", "timezone": "UTC"}
    async with database_of_its_own(servers, template) as dsn:
        connection = await asyncpg.connect(dsn, server_settings=settings)
        try:
            made = MAKE.replace("$1", f"'{BEGAN.isoformat()}'::timestamptz")
            await connection.execute(made.replace("$2", str(ITEMS)).replace("$3", str(RUNS)))
            await connection.execute("VACUUM (ANALYZE)")
            yield connection
        finally:
            await connection.close()


async def head(connection: asyncpg.Connection, statement: Statement) -> Head:
    explain = "EXPLAIN (ANALYZE, TIMING OFF, BUFFERS, FORMAT JSON) "
    return head_of(json.loads(await connection.fetchval(explain + statement.sql, *statement.parameters))[0])


def reads(found: Head) -> tuple[tuple[str, ...], bool]:
    """The indexes, and whether rows had to be sorted."""
    return found.scans, found.sorted


async def test_a_page_of_datasets_reads_by_name(connection) -> None:
    request = datasets_pb2.ListDatasetsRequest(page_size=20)
    request.page_token = to_token(without_paging(request), ["name 1000"])
    found = await head(connection, list_datasets_statement("p", request))
    assert "datasets_by_name" in found.scans
    assert not set(found.scans) & {"datasets", "dataset_items", "experiment_runs", "dataset_descriptions"}
    assert found.rows < 200


async def test_a_page_of_present_items_passes_over_no_others(connection) -> None:
    """Neither what they were before nor what was archived."""
    request = datasets_pb2.ListItemsRequest(dataset=DatasetSelector(name="big"))
    found = await head(connection, list_items_statement("p", request, big(2 * ITEMS + ITEMS // 2)))
    assert (*reads(found), found.rows) == (("dataset_items_that_hold",), False, 51)


async def test_a_page_of_items_far_behind_costs_as_much_as_the_first_at_any_version(connection) -> None:
    for version, most in {ITEMS: 51, 2 * ITEMS: 102, 2 * ITEMS + ITEMS // 2: 51}.items():
        request = datasets_pb2.ListItemsRequest(dataset=DatasetSelector(name="big", version=version))
        request.page_token = to_token(without_paging(request), [version, ITEMS * 3 // 4])
        found = await head(connection, list_items_statement("p", request, big(version)))
        assert len(found.scans) == 1
        assert found.scans[0] in {"dataset_items_in_order", "dataset_items_that_hold"}
        assert not found.sorted
        assert found.rows <= most


async def test_a_page_of_changes_reads_as_many(connection) -> None:
    request = datasets_pb2.DatasetHistoryRequest(name="big")
    request.page_token = to_token(without_paging(request), [ITEMS])
    found = await head(connection, dataset_history_statement("p", "big", request))
    assert (*reads(found), found.rows) == (("dataset_items_pkey", "dataset_changes_pkey"), False, 102)
    request = datasets_pb2.DatasetHistoryRequest(name="big", item_id="c4ca4238a0b923820dcc509a6f75849b")
    found = await head(connection, dataset_history_statement("p", "big", request))
    assert set(found.scans) == {"dataset_items_pkey", "dataset_changes_of_item"}
    assert found.rows == 6


async def test_a_page_of_runs_reads_by_time(connection) -> None:
    request = experiments_pb2.ListExperimentsRequest()
    at = int((BEGAN.timestamp() + 1_000) * 1e6)
    request.page_token = to_token(without_paging(request), [at, "run-1000"])
    found = await head(connection, runs.list_statement("p", request))
    assert "experiment_runs_by_time" in found.scans
    assert not set(found.scans) & {"experiment_runs", "datasets"}
    assert found.rows <= 102
    found = await head(connection, runs.list_statement("p", request, dataset_id="big"))
    assert "experiment_runs_of_dataset" in found.scans
    assert found.rows <= 102


async def test_a_page_of_results_reads_in_the_order_of_the_dataset(connection) -> None:
    request = experiments_pb2.ListExperimentItemsRequest(run_id="run-1999", with_dataset_items=True)
    for now in (2 * ITEMS, 2 * ITEMS + ITEMS // 2):
        run = {"run_id": "run-1999", "dataset_id": "big", "dataset_version": 2 * ITEMS, "dataset_now": now}
        place = ItemPosition(ItemOrder.OF_DATASET, ITEMS // 2, "", 0)
        found = await head(connection, items.list_statement("p", request, run, place))
        assert set(found.scans) == {"dataset_items_in_order", "experiment_items_pkey"}, now
        assert found.rows <= 4 * 51
        place = ItemPosition(ItemOrder.ALL, 0, "8", 0)
        found = await head(connection, items.list_statement("p", request, run, place))
        assert (*reads(found), found.rows) == (("experiment_items_pkey",), False, 51)


async def test_what_watchers_ask_reads_what_is_new(connection) -> None:
    since = Statement(QUERIES["items_since"], ["p", "run-1995", THE_BEGINNING, 51])
    found = await head(connection, since)
    assert (*reads(found), found.rows) == (("experiment_items_by_time",), False, 51)
    looks = Statement(QUERIES["poll_runs"], [["p"] * 3, ["run-7", "run-1995", "no"]])
    found = await head(connection, looks)
    assert "experiment_runs_pkey" in found.scans
    assert found.rows <= 3


def big(version: int) -> SelectedDataset:
    """The dataset at a version."""
    return SelectedDataset({"dataset_id": "big", "version": 2 * ITEMS + ITEMS // 2}, version)
