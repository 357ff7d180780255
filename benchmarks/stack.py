"""A whole stack of its own for a measurement: real servers, one gateway, one projection; gone afterwards."""

import asyncio
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import asyncpg

from services.all_in_one.processes import Process, ProcessManager
from services.all_in_one.reaper import Reaper
from services.all_in_one.services import LOCAL_PROJECT, LOCAL_PROVIDERS, SERVICES, Service, service_command
from services.all_in_one.stack import RunningStack, running_stack
from shared.storage.postgres import SEARCH_PATH

_ROLES = {"gateway": "gateway", "traces": "projection", "kafka": "Kafka", "postgres": "Postgres"}
_SPANS = re.compile(r'^lodestream_projection_items_total\{projection="traces"\} (\S+)$', re.MULTILINE)
# The quota is for tenants; here one sends all.
_SETTINGS = {
    "LODESTREAM_GATEWAY_QUOTA_BYTES_PER_SECOND": "1e12",
    "LODESTREAM_GATEWAY_QUOTA_SPANS_PER_SECOND": "1e9",
}


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs, and how to look into it."""

    running: RunningStack
    more: Sequence[Process] = ()
    """Further processes of the same services."""

    @property
    def processes(self) -> tuple[Process, ...]:
        """All of them."""
        return (*self.running.processes, *self.more)

    @property
    def pids(self) -> dict[str, list[int]]:
        """The processes that take part, by their role."""
        found: dict[str, list[int]] = {}
        for process in self.processes:
            if process.command.name in _ROLES and process.pid:
                found.setdefault(_ROLES[process.command.name], []).append(process.pid)
        return found

    @property
    def endpoint(self) -> str:
        """The gateway's address."""
        return self.running.client_environment["LODESTREAM_ENDPOINT"]

    @property
    def secret_key(self) -> str:
        """A key of its one project."""
        return self.running.client_environment["LODESTREAM_SECRET_KEY"]

    @property
    def dsn(self) -> str:
        """The database."""
        return self.running.addresses["LODESTREAM_POSTGRES"]

    async def visible(self) -> int:
        """Spans committed, those told again too: the projections' own counters, raised after the commit."""
        counted = 0
        for projection in (each for each in self.processes if each.command.name == "traces"):
            page = await asyncio.to_thread(_read, f"http://{projection.command.address}/metrics")
            found = _SPANS.search(page)
            counted += int(float(found[1])) if found else 0
        return counted

    @asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of our own."""
        connection = await asyncpg.connect(self.dsn, server_settings={"search_path": SEARCH_PATH})
        try:
            yield connection
        finally:
            await connection.close()


@asynccontextmanager
async def fresh_stack(
    services: Sequence[Service] = SERVICES, *, more: Sequence[str] = (), **settings: str
) -> AsyncIterator[Stack]:
    """A stack in a temporary folder, with `more` processes of services by name (a gateway's on the port of the first).

    `settings` are further environment variables of its services.
    """
    folder = Path(tempfile.mkdtemp(prefix="lodestream-benchmark-"))
    os.environ.update({**_SETTINGS, "LODESTREAM_GATEWAY_REUSE_PORT": "true", **settings})
    with Reaper(remove=folder) as reaper:
        ground = ProcessManager(folder, reaper)
        async with (
            running_stack(ground, services=services, say=lambda _: None) as running,
            _running_more(ground, running, more) as processes,
        ):
            yield Stack(running, processes)


@asynccontextmanager
async def _running_more(
    ground: ProcessManager, running: RunningStack, names: Sequence[str]
) -> AsyncIterator[list[Process]]:
    by_name = {service.name: service for service in SERVICES}
    gateway = next((each for each in running.processes if each.command.name == "gateway"), None)
    processes = [
        ground.process(
            service_command(
                by_name[name],
                {**LOCAL_PROVIDERS, **os.environ, **LOCAL_PROJECT, **running.addresses},
                port=int(gateway.command.address.rpartition(":")[2]) if gateway and name == "gateway" else None,
            )
        )
        for name in names
    ]
    try:
        for process in processes:
            await process.start()
        yield processes
    finally:
        for process in processes:
            await process.stop()


async def until_visible(stack: Stack, spans: int, *, deadline: float) -> float:
    """Seconds until so many spans are committed.

    Raises TimeoutError.
    """
    begin = time.perf_counter()
    async with asyncio.timeout(deadline):
        while await stack.visible() < spans:
            await asyncio.sleep(0.1)
    return time.perf_counter() - begin


def _read(url: str) -> str:
    with urlopen(url) as page:
        text: str = page.read().decode()
        return text
