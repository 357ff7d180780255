"""The generator: a process of its own that sends pregenerated OTLP, and keeps count of what was acknowledged."""

import asyncio
import multiprocessing
import random
import secrets
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import grpc
import uvloop

from benchmarks.workload import Export, exports

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_REMEMBERED = 2_000
"""Requests to choose from; many more than a batch of the projection holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is sent."""

    spans_per_export: int = 100
    clients: int = 16
    """Connections, each with one request under way."""
    duplicates: float = 0.0
    """The share of requests that were acknowledged before and are sent again."""
    payload_bytes: int | None = None
    """The size of every span's input; None: the usual spans."""
    spans_per_second: float | None = None
    """None: as fast as the answers and the room for what is not visible yet allow."""
    room: int = 150_000
    """Spans acknowledged and not yet visible, beyond which no more is sent: the rates measured can be kept up."""


@dataclass(slots=True)
class Sent:
    """What became of it so far. Spans sent again are in `acked`, not in `distinct`."""

    acked: int = 0
    distinct: int = 0
    refused: int = 0
    """Requests."""
    ack_seconds: list[float] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)


class Generator:
    """The process, seen from the measurement."""

    def __init__(self, process: multiprocessing.process.BaseProcess, pipe: Connection, shared: Any) -> None:
        self._process, self._pipe, self._shared = process, pipe, shared

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def acked(self) -> int:
        """Spans acknowledged so far, those sent again too."""
        return int(self._shared[0])

    def saw(self, visible: int) -> None:
        """Tell it how many spans are visible, those sent again too."""
        self._shared[1] = visible

    def restart_clock(self) -> None:
        """Forget the times of answers so far: the warm-up is over."""
        self._pipe.send("measure")

    async def stop(self) -> Sent:
        """No more requests; what became of all of them."""
        self._pipe.send("stop")
        while not self._pipe.poll():
            await asyncio.sleep(0.05)
        sent: Sent = self._pipe.recv()
        return sent


@contextmanager
def generating(load: Load, *, address: str, secret_key: str) -> Iterator[Generator]:
    """A generator at work."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    shared = context.Array("q", 2, lock=False)
    process = context.Process(target=_main, args=(load, address, secret_key, theirs, shared), daemon=True)
    process.start()
    try:
        yield Generator(process, ours, shared)
    finally:
        process.join(5)
        process.kill()
        process.join()


def _main(load: Load, address: str, secret_key: str, pipe: Connection, shared: Any) -> None:
    uvloop.run(_Sender(load, address, secret_key, shared).run(pipe))


class _Sender:
    def __init__(self, load: Load, address: str, secret_key: str, shared: Any) -> None:
        self._load, self._address, self._shared = load, address, shared
        self._metadata = (("authorization", f"Bearer {secret_key}"),)
        self._sent, self._stopping = Sent(), False
        variants = 1 if load.payload_bytes else 8
        self._exports = exports(spans=load.spans_per_export, variants=variants, payload_bytes=load.payload_bytes)
        self._chance = random.Random(3)
        self._again: deque[tuple[Export, bytes]] = deque(maxlen=_REMEMBERED)
        self._number, self._run = 0, secrets.token_bytes(4)
        self._began = time.perf_counter()

    async def run(self, pipe: Connection) -> None:
        clients = [asyncio.create_task(self._client()) for _ in range(self._load.clients)]
        while not self._stopping:
            await asyncio.sleep(0.05)
            match pipe.poll() and pipe.recv():
                case "measure":
                    self._sent.ack_seconds.clear()
                case "stop":
                    self._stopping = True
        await asyncio.gather(*clients)
        pipe.send(self._sent)

    async def _client(self) -> None:
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1))
        async with grpc.aio.insecure_channel(self._address, options=options) as channel:
            call: Any = channel.unary_unary(EXPORT)
            while not self._stopping:
                await self._turn()
                await self._send(call)

    async def _turn(self) -> None:
        """Return when there is room, and at the rate asked for."""
        while self._shared[0] - self._shared[1] > self._load.room and not self._stopping:
            await asyncio.sleep(0.01)
        if rate := self._load.spans_per_second:
            self._number += 1
            at = self._began + self._number * self._load.spans_per_export / rate
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
        else:
            self._number += 1

    async def _send(self, call: Any) -> None:
        again = bool(self._again) and self._chance.random() < self._load.duplicates
        if again:
            export, nonce = self._chance.choice(self._again)
        else:
            export, nonce = self._chance.choice(self._exports), self._run + self._number.to_bytes(4, "big")
        begin = time.perf_counter()
        try:
            await call(export.fresh(nonce), metadata=self._metadata, timeout=30)
        except grpc.aio.AioRpcError as error:
            self._sent.refused += 1
            reason = f"{error.code().name}: {error.details()}"
            self._sent.reasons[reason] = self._sent.reasons.get(reason, 0) + 1
            await asyncio.sleep(0.5)
            return
        self._sent.ack_seconds.append(time.perf_counter() - begin)
        self._sent.acked += export.spans
        self._shared[0] = self._sent.acked
        if not again:
            self._sent.distinct += export.spans
            self._again.append((export, nonce))
