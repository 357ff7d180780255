"""How soon after its acknowledgement is a span visible? `python -m benchmarks.visible`, by default at 1,000 spans/s.

Visible: the position of the answer is below the projection's committed position, as a reader sees it.
"""

import argparse
import asyncio
import secrets
import statistics
import time
from typing import Any

import asyncpg
import grpc

from benchmarks.load import EXPORT
from benchmarks.page import Table
from benchmarks.stack import Stack, fresh_stack
from benchmarks.workload import exports
from shared.event_log.position import Position, from_token

_LOOK_SECONDS = 0.002
_POSITIONS = "SELECT partition, next_offset FROM projection_positions WHERE projection = 'traces'"


class Watch:
    """Knows how far the rows are, and wakes who waits for a position."""

    def __init__(self) -> None:
        self._waiting: dict[Position, asyncio.Future[float]] = {}

    async def visible_at(self, position: Position) -> float:
        """When it was seen to be visible."""
        future = self._waiting.setdefault(position, asyncio.get_running_loop().create_future())
        return await asyncio.shield(future)  # several may share a record

    async def look(self, connection: asyncpg.Connection) -> None:
        """Until cancelled."""
        while True:
            reached = dict(await connection.fetch(_POSITIONS)) if self._waiting else {}
            now = time.perf_counter()
            for position in [p for p in self._waiting if reached.get(p.partition, 0) > p.offset]:
                self._waiting.pop(position).set_result(now)
            await asyncio.sleep(_LOOK_SECONDS)


async def measure(stack: Stack, *, spans_per_second: float, spans_per_export: int, seconds: float) -> dict[str, float]:
    """Milliseconds: ack, and from ack to visible, p50 and p99."""
    templates, run = exports(spans=spans_per_export), secrets.token_bytes(4)
    acks: list[float] = []
    delays: list[float] = []
    watch = Watch()
    async with stack.database() as connection, grpc.aio.insecure_channel(stack.endpoint) as channel:
        call: Any = channel.unary_unary(EXPORT)
        metadata = (("authorization", f"Bearer {stack.secret_key}"),)

        async def send(number: int, *, count: bool) -> None:
            request = templates[number % len(templates)].fresh(run + number.to_bytes(4, "big"))
            begin = time.perf_counter()
            under_way = call(request, metadata=metadata, timeout=30)
            await under_way
            acked = time.perf_counter()
            token = dict(await under_way.trailing_metadata())["lodestream-position"]
            (position,) = from_token(str(token))
            visible = await watch.visible_at(position)
            if count:
                acks.append(acked - begin)
                delays.append(max(0.0, visible - acked))

        looking = asyncio.create_task(watch.look(connection))
        every, began = spans_per_export / spans_per_second, time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(int((seconds + 3) / every)):
                await asyncio.sleep(max(0.0, began + number * every - time.perf_counter()))
                group.create_task(send(number, count=number * every > 3))
        looking.cancel()
    ack, delay = (statistics.quantiles(values, n=100) for values in (acks, delays))
    return {
        name: 1e3 * value
        for name, value in (
            ("ack p50", ack[49]), ("ack p99", ack[98]), ("visible p50", delay[49]), ("visible p99", delay[98]),
        )
    }  # fmt: skip


async def table(*, spans_per_second: float, spans_per_export: int, seconds: float) -> Table:
    """Measure on a stack of its own."""
    async with fresh_stack() as stack:
        found = await measure(
            stack, spans_per_second=spans_per_second, spans_per_export=spans_per_export, seconds=seconds
        )
    return Table(
        f"At {spans_per_second:,.0f} spans/s, {spans_per_export} an export, for {seconds:.0f} s",
        ["", "p50 ms", "p99 ms"],
        [
            ["acknowledged after it was sent", f"{found['ack p50']:.0f}", f"{found['ack p99']:.0f}"],
            ["visible after it was acknowledged", f"{found['visible p50']:.0f}", f"{found['visible p99']:.0f}"],
        ],
    )


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.visible", description=__doc__)
    parser.add_argument("--rate", type=float, default=1_000, help="spans a second")
    parser.add_argument("--spans-per-export", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    rate, spans_per_export = options.rate, options.spans_per_export
    print(asyncio.run(table(spans_per_second=rate, spans_per_export=spans_per_export, seconds=options.seconds)))


if __name__ == "__main__":
    main()
