"""What does a prompt cost to read, and how soon is a change of one seen? `python -m benchmarks.prompts`.

Reads stand beside a bare grpc.aio server that answers as many bytes, and beside GET of Redis through redis-py, in turns
on the same machine, from the same generator.
"""

import argparse
import asyncio
import statistics
import time
import timeit
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import psutil
import uvloop
from lodestream import Lodestream
from lodestream_proto.v1 import prompts_pb2 as pb
from lodestream_proto.v1.prompt_event_pb2 import PromptLabelsMoved, PromptVersionCreated
from lodestream_proto.v1.prompts_pb2_grpc import PromptServiceStub
from redis.asyncio import Redis

from benchmarks.echo import ECHO, echoing
from benchmarks.page import Table
from benchmarks.stack import Stack, fresh_stack

GET_PROMPT, GET_PROMPTS = (f"/lodestream_proto.v1.PromptService/{name}" for name in ("GetPrompt", "GetPrompts"))
CONNECTIONS = (1, 16, 64)
_TEXT = "You are a support assistant. Answer {{question}} from {{documents}}, politely and briefly. " * 18
_KEY = "lodestream:benchmark"
_TURNS = 3
_FIRST = pb.PromptSelector(name="p0")
_SIDES = {"prompt": "GetPrompt", "echo": "a bare grpc.aio echo", "redis": "Redis GET through redis-py"}
Metadata = tuple[tuple[str, str], ...]
Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Side:
    """Something to be measured: a call on each connection, and the process that answers them."""

    calls: Sequence[Call]
    server: psutil.Process


@dataclass(frozen=True, slots=True)
class Rate:
    """Calls a second, milliseconds each, and what each costs the server: µs of CPU."""

    per_second: float
    p50: float
    p99: float
    server_us: float

    @property
    def cells(self) -> tuple[str, str, str]:
        """Of a table."""
        return f"{self.per_second:,.0f}", f"{self.p50:.2f}/{self.p99:.2f}", f"{self.server_us:.0f}"


async def calling(calls: Sequence[Call], seconds: float) -> list[float]:
    """Each again and again, one at a time: how long each call took."""
    took: list[float] = []
    end = time.perf_counter() + seconds

    async def repeat(call: Call) -> None:
        while (began := time.perf_counter()) < end:
            await call()
            took.append(time.perf_counter() - began)

    await asyncio.gather(*map(repeat, calls))
    return took


async def side_by_side(sides: dict[str, Side], seconds: float) -> dict[str, Rate]:
    """The rates of several, measured in turns, so that what else the machine does hits all of them."""
    took: dict[str, list[float]] = {name: [] for name in sides}
    used = dict.fromkeys(sides, 0.0)
    for turn in range(_TURNS + 1):
        for name, side in sides.items():
            before = _cpu_seconds(side.server)
            found = await calling(side.calls, seconds / _TURNS if turn else 0.5)
            if turn:
                took[name] += found
                used[name] += _cpu_seconds(side.server) - before
    rates = {}
    for name, its in took.items():
        quantiles = statistics.quantiles(its, n=100)
        rates[name] = Rate(len(its) / seconds, 1e3 * quantiles[49], 1e3 * quantiles[98], 1e6 * used[name] / len(its))
    return rates


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@asynccontextmanager
async def connected(address: str, method: str, request: bytes, metadata: Metadata, n: int) -> AsyncIterator[list[Call]]:
    """A call on each of n connections."""
    async with AsyncExitStack() as connections:
        calls: list[Call] = []
        for _ in range(n):
            options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))
            channel = await connections.enter_async_context(grpc.aio.insecure_channel(address, options=options))
            call: Any = channel.unary_unary(method)
            calls.append(partial(call, request, metadata=metadata, timeout=30))
        yield calls


@asynccontextmanager
async def getting(stack: Stack) -> AsyncIterator[Call]:
    """GET of the benchmark's key on a connection of its own."""
    url = stack.running.addresses["LODESTREAM_REDIS"]
    async with Redis.from_url(url, single_connection_client=True) as redis:
        yield lambda: redis.get(_KEY)


async def create(stack: Stack, metadata: Metadata, names: Sequence[str]) -> None:
    """Prompts, in production."""
    async with grpc.aio.insecure_channel(stack.endpoint) as channel:
        stub: Any = PromptServiceStub(channel)
        for name in names:
            prompt = PromptVersionCreated(prompt_name=name, text=_TEXT, config_json="{}", labels=["production"])
            await stub.CreatePrompt(pb.CreatePromptRequest(prompt=prompt), metadata=metadata, timeout=20)


async def read_one(stack: Stack, metadata: Metadata, seconds: float) -> Table:
    """GetPrompt by label beside the echo and Redis."""
    rows: list[Sequence[str]] = []
    request = pb.GetPromptRequest(prompt=_FIRST).SerializeToString()
    async with connected(stack.endpoint, GET_PROMPT, request, metadata, 1) as (call,):
        answer: Any = await call()
    async with Redis.from_url(stack.running.addresses["LODESTREAM_REDIS"]) as redis:
        await redis.set(_KEY, answer)
    with echoing(answer) as (echo, echo_pid):
        for n in CONNECTIONS:
            async with AsyncExitStack() as open_:
                enter = open_.enter_async_context
                prompts = await enter(connected(stack.endpoint, GET_PROMPT, request, metadata, n))
                echoes = await enter(connected(echo, ECHO, request, metadata, n))
                gets = [await enter(getting(stack)) for _ in range(n)]
                sides = {
                    "prompt": Side(prompts, _server(stack, "gateway")),
                    "echo": Side(echoes, psutil.Process(echo_pid)),
                    "redis": Side(gets, _server(stack, "valkey")),
                }
                found = await side_by_side(sides, seconds)
            for name, rate in found.items():
                share = rate.per_second / found["echo"].per_second
                rows.append([str(n), _SIDES[name], *rate.cells, f"{share:.0%}"])
    return Table(
        f"A prompt by its label, an answer of {len(answer):,} bytes; in turns, {seconds:.0f} s each",
        ["Connections", "", "Calls/s", "p50/p99 ms", "Server's CPU µs a call", "Of the echo"],
        rows,
    )


async def read_many(stack: Stack, metadata: Metadata, names: Sequence[str], seconds: float) -> list[str]:
    """GetPrompts of all names, as a row."""
    request = pb.GetPromptsRequest(prompts=[pb.PromptSelector(name=name) for name in names]).SerializeToString()
    async with connected(stack.endpoint, GET_PROMPTS, request, metadata, 1) as calls:
        rate = (await side_by_side({"many": Side(calls, _server(stack, "gateway"))}, seconds))["many"]
    return [f"{len(names)} names in one call", f"{rate.per_second * len(names):,.0f} prompts/s", rate.cells[1]]


def _server(stack: Stack, name: str) -> psutil.Process:
    return psutil.Process(next(each.pid for each in stack.running.processes if each.command.name == name))


async def change(stack: Stack, metadata: Metadata, *, clients: int, moves: int) -> list[list[str]]:
    """From the call that moves a label to each client that watches, as rows."""
    delays: list[float] = []
    answered: list[float] = []
    watched = pb.WatchPromptsRequest(prompts=[pb.WatchedPrompt(prompt=_FIRST)])
    async with AsyncExitStack() as connections:
        watches = []
        for n in range(clients):
            if n % 50 == 0:
                options = (("grpc.use_local_subchannel_pool", 1),)
                channel = await connections.enter_async_context(
                    grpc.aio.insecure_channel(stack.endpoint, options=options)
                )
            stub: Any = PromptServiceStub(channel)
            watches.append(stub.WatchPrompts(watched, metadata=metadata))
        for watch in watches:
            await watch.read()

        async def seen(watch: Any, revision: int, began: float) -> None:
            while not any(outcome.revision >= revision for outcome in (await watch.read()).changes):
                pass
            delays.append(time.perf_counter() - began)

        revision = (await stub.GetPrompt(pb.GetPromptRequest(prompt=_FIRST), metadata=metadata)).prompt.revision
        for n in range(moves):
            began = time.perf_counter()
            telling = [asyncio.create_task(seen(watch, revision + n + 1, began)) for watch in watches]
            move = PromptLabelsMoved(prompt_name="p0", version=1 + n % 2, labels=["production"])
            await stub.MoveLabels(pb.MoveLabelsRequest(move=move), metadata=metadata, timeout=20)
            answered.append(time.perf_counter() - began)
            await asyncio.gather(*telling)
        for watch in watches:
            watch.cancel()
    return [
        [f"a label moved: from the call to what {clients} watching clients see", "", _p50_p99(delays)],
        ["the same: to the writer's answer", "", _p50_p99(answered)],
    ]


def _p50_p99(seconds: Sequence[float]) -> str:
    quantiles = statistics.quantiles(seconds, n=100, method="inclusive")
    return f"{1e3 * quantiles[49]:.1f}/{1e3 * quantiles[98]:.1f}"


def look_up(stack: Stack, calls: int = 200_000) -> list[str]:
    """The SDK's get_prompt of a prompt that it watches, as a row."""
    client = Lodestream(endpoint=stack.endpoint, secret_key=stack.secret_key)
    try:
        client.get_prompt("p0")
        best = min(timeit.repeat(lambda: client.get_prompt("p0"), number=calls // 5, repeat=5)) / (calls // 5)
        return ["the SDK's look-up of a prompt that it watches", f"{1 / best:,.0f}/s", f"{1e9 * best:,.0f} ns"]
    finally:
        client.shutdown()


async def tables(seconds: float) -> list[Table]:
    """Measure all on a stack of its own, `seconds` for each figure."""
    async with fresh_stack() as stack:
        metadata = (("authorization", f"Bearer {stack.secret_key}"),)
        names = [f"p{n}" for n in range(200)]
        await create(stack, metadata, [*names, names[0]])
        one = await read_one(stack, metadata, seconds)
        rows = [
            await read_many(stack, metadata, names, seconds),
            *await change(stack, metadata, clients=100, moves=40),
            await asyncio.to_thread(look_up, stack),
        ]
    return [one, Table("Many names, and changes", ["", "Rate", "p50/p99 ms"], rows)]


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prompts", description=__doc__)
    parser.add_argument("--seconds", type=float, default=9, help="for each figure")
    for table in uvloop.run(tables(parser.parse_args().seconds)):
        print(f"{table}\n")


if __name__ == "__main__":
    main()
