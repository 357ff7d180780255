"""Sends requests about anything but spans, each again until it is settled, and keeps the ledger."""

import argparse
import asyncio
import json
import random
import signal
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import grpc

from tests.torture.ledger import Claim, Ledger
from tests.torture.ways import OPTIONS, Answer

_WORKERS = 3
_LONGEST_WAIT, _LAST_RETRIES = 1.0, 15.0  # seconds: between attempts; for what is not settled at the end


@dataclass(frozen=True, slots=True)
class Tenant:
    """A project and its key."""

    project: str
    secret: str

    @classmethod
    def read(cls, path: Path) -> "Sequence[Tenant]":
        """All that a workload may write for."""
        return [cls(**each) for each in json.loads(path.read_text(encoding="utf-8"))]


@dataclass(frozen=True, slots=True)
class Operation:
    """One request: what it claims, how it is sent, and what follows from its answer."""

    tenant: Tenant
    claims: Sequence[Claim]
    attempt: Callable[[str], Awaitable[Answer]]
    """With the key's secret, once; the same request each time."""
    then: Callable[[Answer], Awaitable[None] | None] | None = None
    """When it was acknowledged."""


class Writer(Protocol):
    """What one of the ways writes."""

    def next(self) -> Operation | None:
        """The next request; None: there is nothing to be done now."""
        ...

    async def finish(self) -> None:
        """Before the end, once nothing new is written."""
        ...


MakeWriter = Callable[[grpc.aio.Channel, Sequence[Tenant], random.Random, Ledger], Writer]


class Driver:
    """Workers that each send one request after the other."""

    def __init__(self, options: argparse.Namespace, ledger: Ledger, writer: Writer) -> None:
        self._options, self._ledger, self._writer = options, ledger, writer
        self._left = options.requests
        self.stop = asyncio.Event()

    async def run(self) -> None:
        """Until told to stop, or until all is sent."""
        await asyncio.gather(*(self._work() for _ in range(_WORKERS)))
        await self._writer.finish()

    async def _work(self) -> None:
        while self._left > 0 and not self.stop.is_set():
            self._left -= 1
            if operation := self._writer.next():
                await send(operation, self._ledger, self.stop)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), _WORKERS / self._options.rate)


async def send(operation: Operation, ledger: Ledger, stop: asyncio.Event) -> Answer:
    """Send it until it is settled, or for a while after the end was asked for."""
    tenant = operation.tenant
    number = ledger.claim(operation.claims, project=tenant.project)
    give_up = float("inf")
    while True:
        answer = await operation.attempt(tenant.secret)
        ledger.learn(
            number, answer.verdict, position=answer.position, code=answer.code, rejected=answer.rejected,
            answer=answer.answer,
        )  # fmt: skip
        if objection := answer.objection():
            ledger.object(objection, f"{tenant.project} #{number}: {answer.details}")
        if answer.verdict == "acked" and operation.then and (following := operation.then(answer)):
            await following
        now = asyncio.get_running_loop().time()
        if stop.is_set():
            give_up = min(give_up, now + _LAST_RETRIES)
        if answer.verdict != "unknown" or now > give_up:
            return answer
        # Sooner than the server asks for: more attempts, more trouble. What it asks for is tested elsewhere.
        await asyncio.sleep(min(answer.retry_after or 0.2, _LONGEST_WAIT))
        ledger.retry(number)


async def write(options: argparse.Namespace, ledger: Ledger, make: MakeWriter) -> None:
    """Write until told to stop, or until all is sent."""
    async with grpc.aio.insecure_channel(options.endpoint, options=OPTIONS) as channel:
        rng = random.Random(f"{options.seed}/{options.life}")
        driver = Driver(options, ledger, make(channel, Tenant.read(options.tenants), rng, ledger))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, driver.stop.set)
        options.tell_ready()
        await driver.run()


def random_uuid(rng: random.Random) -> str:
    """A UUID that depends on the seed only."""
    return str(uuid.UUID(bytes=rng.randbytes(16), version=4))
