"""Several partitions, folded by several processes at the same time, write to the same traces."""

import asyncio
import random

import pytest

from services.projections.traces.copy_format import pack_traces
from services.projections.traces.merge import span_row
from services.projections.traces.summary import summarise
from services.projections.traces.tables import SQL, copy_traces
from shared.event_log.codec import LogRecord
from shared.storage.postgres import load_sql
from tests.integration.test_projection_order import tellings
from tests.support.projecting import Projecting, batches, projecting
from tests.support.records import record

WRITERS = 4
ROUNDS = 12


def partitions_of(choose: random.Random) -> list[list[LogRecord]]:
    """The same spans, whole and in parts, on several partitions at once."""
    told = tellings(choose)
    partitions = []
    for partition in range(WRITERS):
        mine = [*choose.sample(told, k=len(told) * 2 // 3)]
        choose.shuffle(mine)
        requests = batches(mine, [choose.randint(1, 5) for _ in range(3)])
        partitions.append([record(request, partition=partition, offset=n) for n, request in enumerate(requests)])
    return partitions


async def fold_until_done(process: Projecting, records: list[LogRecord], choose: random.Random) -> None:
    for batch in batches(records, [choose.randint(1, 4) for _ in range(3)]):
        await process.fold(*batch)


async def summaries_of_all_spans(process: Projecting) -> list[str]:
    """What the rows of `spans` come to, as texts of rows of `traces`."""
    ids = await process.pool.fetch("SELECT DISTINCT project_id, trace_id FROM spans")
    async with process.pool.acquire() as connection:
        read_spans = load_sql(SQL / "read_spans.sql")
        spans = [row for trace in ids for row in await connection.fetch(read_spans, *trace)]
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("DELETE FROM traces")
        await copy_traces(connection, pack_traces(summarise([span_row(row) for row in spans])))
        rows = await connection.fetch("SELECT (to_jsonb(t) - 'changed_by')::text AS row FROM traces AS t ORDER BY 1")
        await transaction.rollback()
    return [row["row"] for row in rows]


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_writers_of_one_trace_agree(database, seed: int) -> None:
    choose = random.Random(seed)
    partitions = partitions_of(choose)
    async with projecting(database) as one, projecting(database) as other:
        await one.fold(partitions[0][0])  # the days' partitions are made
        await asyncio.gather(
            *(
                fold_until_done(choose.choice([one, other]), records, random.Random(seed + n))
                for n, records in enumerate(partitions)
            )
        )
        raced = await one.dump()
        assert raced["traces"] == await summaries_of_all_spans(one)
        assert await one.count("dead_letters") == 0
        await one.empty()
        for records in partitions:
            await one.fold(*records)
        assert await one.dump() == raced, "as if there had been no race"
