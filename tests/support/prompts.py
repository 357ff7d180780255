"""Commands about prompts for tests: as events, as records of the log, and folded on a real Postgres without Kafka."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.prompt_event_pb2 import (
    PromptArchived,
    PromptLabelRolledBack,
    PromptLabelsMoved,
    PromptVersionCreated,
)
from redis.asyncio import Redis

from services.projections.prompts.commands import Command
from services.projections.prompts.prompts import PromptsProjection
from shared.event_log.assignment import Assignment
from shared.event_log.codec import LogRecord, read
from shared.event_log.topics import PROMPTS
from shared.projection.projector import Projector
from shared.projection.records import ReadRecords
from shared.storage.postgres import connect_pool
from tests.support.records import NOON

TABLES = ("prompts", "prompt_versions", "prompt_labels", "prompt_label_moves", "prompt_commands")


def identity(number: int) -> str:
    """A command id."""
    return str(uuid.UUID(int=number, version=4))


def created(name: str = "greet", text: str = "Hi", *, labels: Sequence[str] = (), **fields: Any) -> Event:
    """A version; `chat` instead of a text makes it a chat."""
    content: dict[str, Any] = {} if "chat" in fields else {"text": text}
    payload = PromptVersionCreated(prompt_name=name, labels=labels, **content, **fields)
    return _event(prompt_version_created=payload)


def moved(version: int, *labels: str, name: str = "greet", **fields: Any) -> Event:
    return _event(prompt_labels_moved=PromptLabelsMoved(prompt_name=name, version=version, labels=labels, **fields))


def rolled_back(label: str, name: str = "greet", **fields: Any) -> Event:
    return _event(prompt_label_rolled_back=PromptLabelRolledBack(prompt_name=name, label=label, **fields))


def archived(name: str = "greet", **fields: Any) -> Event:
    return _event(prompt_archived=PromptArchived(prompt_name=name, **fields))


def again(event: Event, command_id: str) -> Event:
    """The event with this id."""
    copy = Event()
    copy.CopyFrom(event)
    copy.event_id = command_id
    return copy


def record(
    event: Event, offset: int, *, project: str = "p", partition: int = 0, after_ms: int | None = None
) -> LogRecord:
    """A record as the consumer meets it; by default each is appended a second after the one before."""
    event = again(event, event.event_id)
    event.project_id = project
    appended_ms = int(NOON.timestamp() * 1000) + (1000 * offset if after_ms is None else after_ms)
    return read(PROMPTS, partition, offset, appended_ms, event.SerializeToString())


def records(*events: Event, **options: Any) -> list[LogRecord]:
    """Records in a row."""
    return [record(event, offset, **options) for offset, event in enumerate(events)]


@dataclass(frozen=True, slots=True)
class Deciding:
    """One process's projector and its connections."""

    projector: Projector[ReadRecords[Command]]
    pool: asyncpg.Pool

    async def fold(self, *records: LogRecord) -> None:
        """One batch."""
        await self.projector.fold(records)

    async def rows(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.pool.fetch(query, *arguments)]

    async def dump(self) -> dict[str, list[str]]:
        """All tables as texts, to be compared."""
        return {
            table: [row["row"] for row in await self.pool.fetch(f"SELECT t::text AS row FROM {table} AS t ORDER BY 1")]
            for table in TABLES
        }

    async def empty(self) -> None:
        """Start again from nothing."""
        await self.pool.execute(f"TRUNCATE {', '.join(TABLES)}, prompt_outbox, projection_positions, dead_letters")


@asynccontextmanager
async def deciding(dsn: str) -> AsyncIterator[Deciding]:
    """A projector on this database."""
    pool = await connect_pool(dsn, application="test", search_path="prompts, lodestream", max_size=4)
    try:
        yield Deciding(Projector(pool, PromptsProjection(), Assignment()), pool)
    finally:
        await pool.close()


async def forget_prompts(redis: str) -> None:
    """Empty the cache: what other tests have left there would be newer than what a fresh database holds."""
    async with Redis.from_url(redis) as client:
        await client.flushall()


def _event(**payload: Any) -> Event:
    return Event(event_id=str(uuid.uuid4()), project_id="p", **payload)
