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

from services.all_in_one.keeper import Keeper
from services.all_in_one.processes import Ground
from services.all_in_one.services import SERVICES, Service
from services.all_in_one.stack import Running, running_stack
from shared.read_model.postgres import SEARCH_PATH

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

    running: Running

    @property
    def pids(self) -> dict[str, int]:
        """The processes that take part, by their role."""
        return {
            _ROLES[process.command.name]: process.pid
            for process in self.running.processes
            if process.command.name in _ROLES and process.pid
        }

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
        """Spans committed, those told again too: the projection's own counter, raised after the commit."""
        (projection,) = (each for each in self.running.processes if each.command.name == "traces")
        page = await asyncio.to_thread(_read, f"http://{projection.command.address}/metrics")
        found = _SPANS.search(page)
        return int(float(found[1])) if found else 0

    @asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of our own."""
        connection = await asyncpg.connect(self.dsn, server_settings={"search_path": SEARCH_PATH})
        try:
            yield connection
        finally:
            await connection.close()


@asynccontextmanager
async def fresh_stack(services: Sequence[Service] = SERVICES, **settings: str) -> AsyncIterator[Stack]:
    """A stack in a temporary folder; `settings` are further environment variables of its services."""
    folder = Path(tempfile.mkdtemp(prefix="lodestream-benchmark-"))
    os.environ.update({**_SETTINGS, **settings})
    with Keeper(remove=folder) as keeper:
        async with running_stack(Ground(folder, keeper), services=services, say=lambda _: None) as running:
            yield Stack(running)


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
