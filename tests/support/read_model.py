"""What tests of the running projection send, and what they look at."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable

import asyncpg

from shared.event_log.topics import TRACES
from shared.storage.postgres import SEARCH_PATH
from tests.support.log_access import ends
from tests.support.records import event, span

TRACES_PROJECTION = "services.projections.traces"


class Table:
    """What a project's rows come to."""

    def __init__(self, dsn: str, project: str) -> None:
        self.dsn, self.project = dsn, project

    async def value(self, query: str, *arguments: object) -> int:
        connection = await asyncpg.connect(self.dsn, server_settings={"search_path": SEARCH_PATH})
        try:
            return int(await connection.fetchval(query, *arguments) or 0)
        finally:
            await connection.close()

    async def spans(self) -> int:
        return await self.value("SELECT count(*) FROM spans WHERE project_id = $1", self.project)

    async def counted(self) -> int:
        return await self.value("SELECT sum(span_count) FROM traces WHERE project_id = $1", self.project)

    def holds(self, spans: int) -> Callable[[], Awaitable[bool]]:
        async def holds() -> bool:
            return await self.spans() >= spans

        return holds


async def offer_providers(dsn: str, *providers: str) -> None:
    """As if evaluation workers offered these, for ever."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.executemany(
            "INSERT INTO lodestream.providers (provider, offered_until, kind) VALUES ($1, 'infinity', 'mock')",
            [(provider,) for provider in providers],
        )
    finally:
        await connection.close()


def requests(project: str, count: int, *, first: int = 0, partitions: int = 12) -> list[tuple[int, bytes]]:
    """Records of two spans; ten records share a trace, on several partitions."""
    return [
        (
            n % partitions,
            event([span(n // 10 + 1, 2 * n + 1), span(n // 10 + 1, 2 * n + 2)], project=project).SerializeToString(),
        )
        for n in range(first, first + count)
    ]


def get(address: str, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def shows(address: str, sample: str) -> Callable[[], Awaitable[bool]]:
    """Whether the metrics have this line."""

    async def shown() -> bool:
        _, metrics = await asyncio.to_thread(get, address, "/metrics")
        return sample.encode() in metrics

    return shown


async def begin_at_the_end(kafka: str, dsn: str, projection: str = "traces", topic: str = TRACES) -> None:
    """Let a database's projection begin after what other tests have left in the log."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.executemany(
            "INSERT INTO lodestream.projection_positions (projection, topic, partition, next_offset)"
            " VALUES ($1, $2, $3, $4)",
            [(projection, topic, partition, end) for partition, end in (await ends(kafka, topic)).items()],
        )
    finally:
        await connection.close()
