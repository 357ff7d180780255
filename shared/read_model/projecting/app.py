"""The FastStream application of a projection: its route, its resources, and three pages (/health, /metrics, /docs)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Generic

import asyncpg
from faststream.asgi import AsgiFastStream
from faststream.kafka import KafkaRouter
from faststream.kafka.subscriber.usecase import BatchSubscriber
from faststream.specification import AsyncAPI
from prometheus_client import make_asgi_app

from shared.event_log.assignment import Assignment
from shared.event_log.broker import kafka_broker
from shared.read_model.dead_letters import code_version
from shared.read_model.postgres import connect_pool
from shared.read_model.projecting.health import Health
from shared.read_model.projecting.places import Places
from shared.read_model.projecting.projection import Prepared, Projection
from shared.read_model.projecting.projector import IN_FLIGHT, Projector
from shared.read_model.projecting.waiting import wait_for_postgres, wait_for_topic
from shared.read_model.projecting.watch import Watch
from shared.runtime.settings import KafkaSettings, PostgresSettings

_BOUNDS = {
    "idle_in_transaction_session_timeout": "10s",
    "lock_timeout": "10s",
    "statement_timeout": "30s",
    "transaction_timeout": "60s",  # of a process frozen between two messages of a statement: that is not idle
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts(Generic[Prepared]):
    """What a projection's application is made of."""

    name: str
    topic: str
    router: KafkaRouter
    subscriber: BatchSubscriber
    assignment: Assignment
    open: Callable[[asyncpg.Pool], AbstractAsyncContextManager[Projection[Prepared]]]
    """Makes the projection, and lets run beside it what it needs, for as long as the application lives."""
    prepare_connection: Callable[[asyncpg.Connection], Awaitable[None]] | None = None
    about: str = ""
    """What it does, where it is no projection."""


def make_app(parts: Parts[Prepared], *, kafka: KafkaSettings, postgres: PostgresSettings, group: str) -> AsgiFastStream:
    """The application; nothing is connected before its lifespan."""
    name, topic, assignment = parts.name, parts.topic, parts.assignment
    broker = kafka_broker(kafka, client_id=f"lodestream-projection-{name}")
    broker.include_router(parts.router)
    parts.subscriber.group_id = group
    health = Health()

    @asynccontextmanager
    async def resources() -> AsyncIterator[None]:
        await wait_for_postgres(postgres.dsn, schema=name)
        await wait_for_topic(kafka, topic)
        pool = await connect_pool(
            postgres.dsn,
            application=f"projection-{name}",
            search_path=f"{name}, lodestream",
            max_size=2 * IN_FLIGHT + 2,
            init=parts.prepare_connection,
            server_settings=_BOUNDS,
        )
        try:
            async with parts.open(pool) as projection:
                assignment.open(lambda: parts.subscriber.consumer, Places(pool, name, topic).find)
                projector = Projector(pool, projection, assignment)
                await projector.unpark()
                app.context.set_global("projector", projector)
                health.watch = Watch(pool, name, topic, assignment)
                try:
                    async with beside(health.watch.run()):
                        yield
                finally:
                    health.watch = None
                    await assignment.close()
        finally:
            await pool.close()

    app = AsgiFastStream(
        broker,
        logger=None,
        lifespan=resources,
        asgi_routes=[("/health", health.page), ("/metrics", make_asgi_app())],
        specification=AsyncAPI(
            title=f"Lodestream {name}{'' if parts.about else ' projection'}", version=code_version().split()[-1],
            description=f"Reads {topic} and {parts.about or f'keeps the {name} read model'}.",
        ),
        asyncapi_path="/docs",
    )  # fmt: skip
    return app


@asynccontextmanager
async def beside(work: Awaitable[None]) -> AsyncIterator[None]:
    """Let something run beside the body, and end with it."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
