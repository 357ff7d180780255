"""`python -m benchmarks.reads`: load, ask, print a table of times and one of plans.

A database that LODESTREAM_POSTGRES names keeps what was loaded; the next run measures that.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
from lodestream_proto.v1 import query_pb2 as pb

from benchmarks.page import Table
from benchmarks.reads.cases import lists, session_lists
from benchmarks.reads.data import GREAT_SESSION, LARGE_TRACE, Loaded, load, look
from benchmarks.reads.latency import Client
from benchmarks.reads.plans import plans
from benchmarks.stack import Stack, fresh_stack
from services.all_in_one.services import SERVICES

_BEHIND = 50_000


async def measure(stack: Stack, loaded: Loaded) -> Table:
    """A row for each kind of read."""
    rows: list[Sequence[str]] = []
    (query,) = (each for each in stack.running.processes if each.command.name == "query")
    async with _client(query.command.address, stack) as direct, _client(stack.endpoint, stack) as proxied:

        async def line(name: str, method: str, request: object, calls: int = 300) -> None:
            both = [await client.timed(method, request, calls) for client in (direct, proxied)]
            rows.append([name, *map(str, both)])

        await line("GetStatus", "GetStatus", pb.GetStatusRequest())
        ids = [trace_id.hex() for trace_id in loaded.sample]
        await line(
            "a trace of 5 spans", "GetTrace", lambda n: pb.GetTraceRequest(trace_id=ids[n % len(ids)]), calls=1_000
        )
        await line(
            "the same, with content", "GetTrace",
            lambda n: pb.GetTraceRequest(trace_id=ids[n % len(ids)], with_content=True), calls=1_000,
        )  # fmt: skip
        await line(
            "the same, after a write it waits for", "GetTrace",
            lambda n: pb.GetTraceRequest(trace_id=ids[n % len(ids)], wait_for=pb.WaitFor(position=loaded.position)),
        )  # fmt: skip
        large = LARGE_TRACE.hex()
        await line("a trace of 10,000 spans", "GetTrace", pb.GetTraceRequest(trace_id=large), 10)
        await line("the same, with content", "GetTrace", pb.GetTraceRequest(trace_id=large, with_content=True), 5)
        for name, request in lists(loaded).items():
            await line(name, "ListTraces", request)
        await line("1,000 traces in a page", "ListTraces", pb.ListTracesRequest(page_size=1_000), 30)
        for name in ("latest 50", "by latency, descending", "by name, ascending"):
            request = lists(loaded)[name]
            request.page_token = await direct.page_token(request, _BEHIND)
            await line(f"{name}, page 1,000 (behind {_BEHIND:,})", "ListTraces", request)
        for name, listed in session_lists().items():
            await line(name, "ListSessions", listed)
        await line("a session of eight", "GetSession", pb.GetSessionRequest(session_id="session-900"))
        await line("the session of a twentieth", "GetSession", pb.GetSessionRequest(session_id=GREAT_SESSION))
    return Table(
        f"One call after the other at {loaded.spans:,} spans in {loaded.traces:,} traces, p50 / p99 ms",
        ["Read", "Query service", "Through the gateway"],
        rows,
    )


@asynccontextmanager
async def _client(address: str, stack: Stack) -> AsyncIterator[Client]:
    options = (("grpc.max_receive_message_length", -1),)
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield Client(channel, stack.secret_key)


async def tables(traces: int, *, only_plans: bool = False) -> list[Table]:
    """Load where there is nothing, ask, and explain."""
    async with fresh_stack([service for service in SERVICES if service.endpoint]) as stack:
        loaded = await look(stack.dsn)
        if loaded is None:
            await load(stack.dsn, traces)
            loaded = await look(stack.dsn)
        assert loaded
        times = [] if only_plans else [await measure(stack, loaded)]
        return [*times, await plans(stack.dsn, loaded)]


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reads", description=__doc__)
    parser.add_argument("--traces", type=int, default=200_000, help="of five spans, to load into an empty database")
    parser.add_argument("--plans", action="store_true", help="only the plans")
    options = parser.parse_args()
    for table in asyncio.run(tables(options.traces, only_plans=options.plans)):
        print(f"{table}\n")


if __name__ == "__main__":
    main()
