"""A batch of datasets and runs costs what is new in it, and no more statements for a thousand events than for ten."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from lodestream_proto.v1.event_pb2 import Event

from services.projections.experiments import load as loading
from services.projections.experiments import tables
from services.projections.experiments.analyzing import analyze_grown
from services.projections.experiments.commands import command_of
from services.projections.experiments.decide import decide_all
from shared.storage.postgres import load_sql
from tests.support.experiment_records import (
    archived,
    created,
    dataset_id,
    finished,
    item,
    item_archived,
    records,
    requested,
    result,
    said,
)

ROWS = 20_000
# As a first large dataset and a first large run leave the tables, before anything has counted their rows.
FILL = """
ALTER TABLE dataset_items SET (autovacuum_enabled = FALSE);
ALTER TABLE experiment_items SET (autovacuum_enabled = FALSE);
INSERT INTO dataset_items
SELECT 'p', 'd', 'i' || n, n + 1, NULL, n + 1, FALSE, '1', '', '', NULL, NULL, '{}', '', now(), now()
FROM generate_series(1, 20000) AS n;
INSERT INTO experiment_items
SELECT 'p', 'r', 'i' || n, 0, FALSE, 0, NULL, now(), NULL, '' FROM generate_series(1, 20000) AS n;
"""
_SQL = Path(tables.__file__).parent / "sql"


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database, server_settings={"search_path": "experiments, lodestream"})
    yield connection
    await connection.close()


def events(count: int) -> Sequence[Event]:
    """So many items added, changed and archived, and so many results, and changes of the subjects themselves."""
    its = [f"i{n}" for n in range(count)]
    return [
        created(),
        *(item(each) for each in its),
        requested(),
        *(result(each, evaluations=[said("a", 1.0), said("b", "x")]) for each in its),
        *(item(each, '"changed"') for each in its),
        *(item_archived(each) for each in its),
        finished(),
        archived(),
    ]


async def statements(connection: asyncpg.Connection, told: Sequence[Event]) -> list[str]:
    """Which of our statements load and write these, and the same again."""
    names = {load_sql(path): path.stem for path in _SQL.iterdir()}
    asked: list[str] = []

    def remember(query: Any) -> None:
        if query.query in names:
            asked.append(names[query.query])

    connection.add_query_logger(remember)
    for first in (0, len(told)):
        commands = [command_of(each) for each in records(*told, first=first)]
        async with connection.transaction():
            await tables.write(connection, decide_all(await loading.load(connection, commands), commands))
    connection.remove_query_logger(remember)
    return asked


async def test_a_thousand_events_take_no_more_statements_than_ten(connection) -> None:
    few = await statements(connection, events(3))
    await connection.execute("TRUNCATE datasets, dataset_descriptions, dataset_items, dataset_changes")
    await connection.execute("TRUNCATE experiment_events, experiment_runs, experiment_items, experiment_evaluations")
    many = await statements(connection, events(300))
    assert few == many
    assert set(many) >= {"lock_datasets", "load_events", "upsert_dataset", "end_items", "insert_run"}
    assert max(many.count(name) for name in many) == 2, "once a batch"
    assert await connection.fetchval("SELECT count(*) FROM experiment_items") == 300
    assert await connection.fetchval("SELECT count(*) FROM dataset_items") == 900


LOOKS = {
    "load_items": ("dataset_items_pkey", 3),
    "load_results": ("experiment_items_pkey", 4),
    "load_last_results": ("experiment_items_by_time", 2),
    "end_items": ("dataset_items_pkey", 4),
    "archive_items": ("dataset_items_pkey", 7),
}


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_each_look_reads_one_row_also_while_postgres_knows_nothing_of_the_tables(connection, mode: str) -> None:
    await connection.execute(FILL)
    await connection.execute(f"SET plan_cache_mode = {mode}")
    ids = [f"i{n}" for n in range(1, 2_001)]
    many = len(ids)
    columns = {
        "dataset_items": [["p"] * many, ["d"] * many, ids, [ROWS + 9] * many, [None] * many, [""] * many,
                          [datetime.now(UTC)] * many],
        "experiment_items": [["p"] * many, ["r"] * many, ids, [0] * many],
    }  # fmt: skip
    for name, (index, arguments) in LOOKS.items():
        async with connection.transaction():
            query = "EXPLAIN (ANALYZE, FORMAT TEXT) " + load_sql(_SQL / f"{name}.sql")
            given = columns[index.rpartition("_items")[0] + "_items"][:arguments]
            plan = "\n".join(row[0] for row in await asyncio.wait_for(connection.fetch(query, *given), 20))
        assert f"using {index}" in plan, name
        assert "Seq Scan" not in plan, name
        assert "Rows Removed" not in plan, f"{name} reads what it does not want:\n{plan}"


async def test_a_table_is_analysed_when_it_has_doubled(connection) -> None:
    """So whoever joins a run with its dataset finds each item by its key, from the first seconds on."""
    await connection.execute(FILL)
    join = (
        "EXPLAIN SELECT count(*) FROM experiment_items AS results JOIN dataset_items AS items"
        " ON items.project_id = results.project_id AND items.dataset_id = 'd' AND items.item_id = results.item_id"
        " WHERE results.project_id = 'p' AND results.run_id = 'r'"
    )
    assert "Hash Join" not in str(await connection.fetch(join)), "nothing is known, and two rows are expected"
    grown = ["experiments.dataset_items", "experiments.experiment_items"]
    assert await analyze_grown(connection, "experiments") == grown
    assert "Hash Join" in str(await connection.fetch(join))
    assert await analyze_grown(connection, "experiments") == []
    for project in "qr":
        await connection.execute(FILL.replace("'p'", f"'{project}'"))
    assert await analyze_grown(connection, "experiments") == grown


async def test_a_dataset_may_have_more_items_than_are_looked_at_at_once(connection) -> None:
    """What items say is read by a cursor, and compared piece by piece."""
    told = [created(), *(item(f"i{n}", f'"{n}"') for n in range(500))]
    await statements(connection, told)
    same = [item(f"i{n}", f' "{n}" ') for n in range(500)]
    await statements(connection, same)
    assert (
        await connection.fetchval("SELECT version FROM datasets WHERE dataset_id = $1", dataset_id("questions")) == 501
    )
