"""A start with a server away: say so, wait, look again."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import asyncpg
import structlog
from aiokafka.errors import KafkaError

from shared.event_log.presence import has_topic
from shared.runtime.settings import KafkaSettings
from shared.storage.postgres import DATABASE_ERRORS

log = structlog.get_logger()

SERVER_ERRORS = (*DATABASE_ERRORS, KafkaError)
"""What may be raised because Postgres or Kafka is away."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 10.0


async def wait_for_postgres(dsn: str, schema: str) -> None:
    """Return when Postgres answers and holds this version's tables of a schema."""
    await _wait_for("postgres", lambda: _tables_are_there(dsn, schema))


async def wait_for_topic(settings: KafkaSettings, topic: str) -> None:
    """Return when Kafka answers and has the topic."""
    await _wait_for("kafka", lambda: _topic_is_there(settings, topic))


def growing_pauses() -> Iterator[float]:
    """Seconds between one look at a server that is away and the next, for ever."""
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE)


async def _wait_for(what: str, look: Callable[[], Awaitable[str | None]]) -> None:
    pauses = growing_pauses()
    while True:
        try:
            missing = await look()
        except (OSError, TimeoutError, asyncpg.PostgresError, KafkaError) as error:
            missing = f"{type(error).__name__}: {error}"
        if missing is None:
            return
        pause = next(pauses)
        log.warning("waiting", server=what, because=missing, again_in=pause)
        await asyncio.sleep(pause)


async def _tables_are_there(dsn: str, schema: str) -> str | None:
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        found = await connection.fetchval("SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = $1)", schema)
    finally:
        await connection.close()
    return None if found else f"the tables of {schema} are missing: run python -m shared.storage.migrate"


async def _topic_is_there(settings: KafkaSettings, topic: str) -> str | None:
    there = await has_topic(settings, topic)
    return None if there else f"the topic {topic} is missing: run python -m shared.event_log.topics"
