"""How many scores a second go from Record to Postgres? `python -m benchmarks.scores`, on a stack of its own.

One process sends, several requests under way at a time. Visible is what Postgres has committed.
"""

import argparse
import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import grpc
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.ingest_pb2 import RecordRequest
from lodestream_proto.v1.ingest_pb2_grpc import IngestServiceStub
from lodestream_proto.v1.score_event_pb2 import ScoreRecorded, ScoreTarget, ScoreValue

from benchmarks.page import Table
from benchmarks.processes import used
from benchmarks.stack import Stack, fresh_stack

_COUNT = "SELECT count(*) FROM scores"


@dataclass(frozen=True, slots=True)
class Measured:
    """A run: scores, and seconds until all were acknowledged and until all were visible."""

    scores: int
    acked: float
    visible: float
    cpu_us: dict[str, float]
    """Of a score, by process."""


def request(first: int, count: int) -> RecordRequest:
    """Scores of as many traces, each with a score id of its own."""
    request = RecordRequest()
    for n in range(first, first + count):
        event = Event(event_id=f"00000000-0000-7000-8000-{n:012x}")
        event.occurred_at.GetCurrentTime()
        event.score_recorded.CopyFrom(
            ScoreRecorded(
                score_id=f"s{n}",
                target=ScoreTarget(trace_id=secrets.token_bytes(16)),
                name=f"quality-{n % 10}",
                value=ScoreValue(numeric=n % 101 / 100),
                comment="The answer is grounded in the documents, but leaves out the fee.",
                author="judge",
                evaluator_version="4f1c2a9d",
            )
        )
        request.events.append(event)
    return request


async def measure(stack: Stack, *, scores: int, per_request: int, clients: int) -> Measured:
    """Send, and wait until all are visible."""
    waiting = iter([request(first, per_request) for first in range(0, scores, per_request)])
    metadata = (("authorization", f"Bearer {stack.secret_key}"),)
    pids = {process.command.name: [process.pid] for process in stack.running.processes if process.pid}

    async with stack.database() as connection, grpc.aio.insecure_channel(stack.endpoint) as channel:
        stub: Any = IngestServiceStub(channel)

        async def send() -> None:
            for its in waiting:
                answer = await stub.Record(its, metadata=metadata, timeout=60)
                assert all(result.outcome == 1 for result in answer.results)

        before, began = used(pids), time.perf_counter()
        await asyncio.gather(*(send() for _ in range(clients)))
        acked = time.perf_counter() - began
        await _until(connection, scores)
        visible = time.perf_counter() - began
        spent = used(pids).since(before).by_role
    return Measured(scores, acked, visible, {name: 1e6 * seconds / scores for name, seconds in spent.items()})


async def _until(connection: asyncpg.Connection, scores: int) -> None:
    async with asyncio.timeout(120):
        while await connection.fetchval(_COUNT) < scores:
            await asyncio.sleep(0.05)


async def table(*, scores: int, per_request: Sequence[int], clients: int) -> Table:
    """Measure, each number of scores a request on a stack of its own."""
    rows = []
    for count in per_request:
        async with fresh_stack() as stack:
            found = await measure(stack, scores=scores, per_request=count, clients=clients)
        cpu = ", ".join(f"{name} {us:.0f}" for name, us in found.cpu_us.items() if us >= 1)
        rows.append([str(count), f"{scores / found.acked:,.0f}", f"{scores / found.visible:,.0f}", cpu])
    return Table(
        f"{scores:,} scores from Record to Postgres, {clients} requests at a time",
        ["Scores a request", "Acknowledged/s", "Visible/s", "CPU µs a score"],
        rows,
    )


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scores", description=__doc__)
    parser.add_argument("--scores", type=int, default=50_000)
    parser.add_argument("--per-request", type=int, nargs="+", default=[100, 1])
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    print(asyncio.run(table(scores=options.scores, per_request=options.per_request, clients=options.clients)))


if __name__ == "__main__":
    main()
