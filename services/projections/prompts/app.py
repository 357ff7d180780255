"""The application: commands of the log into the prompts read model, and from there into Redis."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from faststream.asgi import AsgiFastStream

from services.projections.prompts.prompts import NAME, PromptsProjection
from services.projections.prompts.pump import Pump
from services.projections.prompts.subscriber import assignment, router, subscriber
from shared.event_log.topics import PROMPTS
from shared.read_model.projecting.app import Parts, beside, make_app
from shared.read_model.prompt_cache import PromptCache
from shared.runtime.settings import KafkaSettings, PostgresSettings, PromptsProjectionSettings, RedisSettings

_REDIS_SECONDS = 1.0  # nobody waits for the pump


def create_app(
    kafka: KafkaSettings | None = None,
    postgres: PostgresSettings | None = None,
    projection: PromptsProjectionSettings | None = None,
    redis: RedisSettings | None = None,
) -> AsgiFastStream:
    """The application for these settings, by default the environment's."""
    url = (redis or RedisSettings()).url

    @asynccontextmanager
    async def open_projection(pool: asyncpg.Pool) -> AsyncIterator[PromptsProjection]:
        cache = PromptCache(url, seconds=_REDIS_SECONDS)
        try:
            async with beside(Pump(pool, cache).run()):
                yield PromptsProjection()
        finally:
            await cache.aclose()

    return make_app(
        Parts(
            name=NAME, topic=PROMPTS, router=router, subscriber=subscriber, assignment=assignment, open=open_projection
        ),
        kafka=kafka or KafkaSettings(),
        postgres=postgres or PostgresSettings(),
        group=(projection or PromptsProjectionSettings()).group,
    )
