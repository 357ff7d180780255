"""How fast is a rebuild, beside the live projection, in one run? `python -m benchmarks.rebuild`.

Spans are written through the gateway for a while: the live rate with everything on the same cores. Then nothing else
runs: a fresh database is folded by the live projection from the beginning, and rebuilds with one process and more.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson

from benchmarks.ingest import measure
from benchmarks.load import Load
from benchmarks.page import Table
from benchmarks.processes import used
from benchmarks.stack import Stack, fresh_stack
from shared.storage.migrate import migrate

_MODULE = "services.projections.traces"
_FOLDED = """
SELECT coalesce(sum(next_offset), 0)::bigint FROM lodestream.projection_positions WHERE projection = 'traces'
"""


async def live_alone(stack: Stack, records: int) -> float:
    """Seconds for one live projection to fold the whole log into a fresh database, from its first record on."""
    dsn = f"{stack.dsn.rpartition('/')[0]}/alone"
    async with stack.database() as connection:
        await connection.execute("CREATE DATABASE alone")
    await migrate(dsn)
    environment = {"LODESTREAM_POSTGRES": dsn, "LODESTREAM_TRACES_GROUP": "alone", "LODESTREAM_METRICS_PORT": "0"}
    connection = await asyncpg.connect(dsn)
    try:
        async with _running(stack, **environment):
            while not await connection.fetchval(_FOLDED):
                await asyncio.sleep(0.02)
            begin = time.perf_counter()
            while await connection.fetchval(_FOLDED) < records:
                await asyncio.sleep(0.05)
            return time.perf_counter() - begin
    finally:
        await connection.close()


async def rebuilt(stack: Stack, processes: int) -> tuple[float, float]:
    """Records a second while its processes fold, and seconds from the command to the verdict."""
    begin = time.perf_counter()
    folded: list[tuple[float, int]] = []
    command = [sys.executable, "-m", _MODULE, "rebuild", "--restart", "--no-swap", "--processes", str(processes)]
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **stack.running.addresses}, stdout=asyncio.subprocess.PIPE, limit=2**24
    )
    assert process.stdout is not None
    async for line in process.stdout:
        event: dict[str, Any] = orjson.loads(line)
        if event["event"] == "progress" and event["phase"] == "folding":
            folded.append((time.perf_counter(), event["done"]))
        if event["event"] == "compared" and not event["same"]:
            raise SystemExit("the rebuilt one is not the live one")
    if await process.wait():
        raise SystemExit("the rebuild failed")
    (first_at, first), (last_at, last) = folded[0], folded[-1]
    return (last - first) / (last_at - first_at), time.perf_counter() - begin


@asynccontextmanager
async def _running(stack: Stack, **environment: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", _MODULE), env={**os.environ, **stack.running.addresses, **environment}
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def table(seconds: float, most: int) -> Table:
    """Write for so many seconds, and fold that again in every way."""
    rows: list[list[str]] = []
    async with fresh_stack() as stack:
        result = await measure(stack, Load(), seconds)
        async with stack.database() as connection:
            spans = await connection.fetchval("SELECT count(*) FROM spans")
            records = await connection.fetchval(_FOLDED)
        live, before = result.visible_per_second, used({})
        alone = spans / await live_alone(stack, records)

        def row(name: str, rate: float) -> None:
            rows.append([name, f"{rate:,.0f}", f"{rate / live:.2f}", f"{rate / alone:.2f}"])

        row("live, with gateway, generator and Kafka's writes on the same cores", live)
        row("live, alone: one projection folds the same log into a fresh database", alone)
        for processes in range(1, most + 1):
            rate, took = await rebuilt(stack, processes)
            row(f"rebuild, processes: {processes}, once they fold", rate * spans / records)
            row("the same, from the command to the verdict (starts, indexes, comparison)", spans / took)
        spent = used({}).since(before)
    return Table(
        f"Rebuilding {spans:,} spans in {records:,} records; the machine was {spent.busy / spent.total:.0%} busy",
        ["", "Spans/s", "Of live with everything", "Of live alone"],
        rows,
    )


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rebuild", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30, help="of writing, which is what is rebuilt")
    parser.add_argument("--processes", type=int, default=2, help="at most")
    options = parser.parse_args()
    print(asyncio.run(table(options.seconds, options.processes)))


if __name__ == "__main__":
    main()
