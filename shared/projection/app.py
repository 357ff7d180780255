"""The FastStream application of a projection: its route, its resources, and three pages (/health, /metrics, /docs)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Annotated, Any

import asyncpg
from faststream import Context
from faststream.asgi import AsgiFastStream
from faststream.specification import AsyncAPI
from prometheus_client import make_asgi_app

from shared.event_log.assignment import Assignment
from shared.event_log.broker import kafka_broker, log_router, read_batches
from shared.event_log.codec import LogRecord
from shared.event_log.projections import ProjectionSpec
from shared.projection.dead_letters import code_version
from shared.projection.health import Health
from shared.projection.lag_monitor import LagMonitor
from shared.projection.projection import Prepared, Projection
from shared.projection.projector import IN_FLIGHT, Projector
from shared.projection.start_positions import StartPositions
from shared.projection.waiting import wait_for_postgres, wait_for_topic
from shared.runtime.settings import KafkaSettings, PostgresSettings
from shared.storage.postgres import connect_pool

_BOUNDS = {
    "idle_in_transaction_session_timeout": "10s",
    "lock_timeout": "10s",
    "statement_timeout": "30s",
    "transaction_timeout": "60s",  # of a process frozen between two messages of a statement: that is not idle
}


OpenProjection = Callable[[asyncpg.Pool], AbstractAsyncContextManager[Projection[Prepared]]]
"""Makes the projection, and lets run beside it what it needs, for as long as the application lives."""


def make_app(
    spec: ProjectionSpec,
    open_projection: OpenProjection[Prepared],
    *,
    kafka: KafkaSettings | None = None,
    postgres: PostgresSettings | None = None,
    group: str | None = None,
    prepare_connection: Callable[[asyncpg.Connection], Awaitable[None]] | None = None,
) -> AsgiFastStream:
    """Make the application; nothing is connected before its lifespan.

    Args:
        spec: What it is called and reads.
        open_projection: Makes the projection.
        kafka: By default the environment's.
        postgres: By default the environment's.
        group: The consumer group, by default the spec's.
        prepare_connection: Run on each new connection to Postgres.
    """
    kafka, postgres = kafka or KafkaSettings(), postgres or PostgresSettings()
    name, topic, assignment = spec.name, spec.topic, Assignment()
    broker = kafka_broker(kafka, client_id=f"lodestream-projection-{name}")
    router = log_router()
    subscriber = read_batches(
        router,
        topic,
        group=group or spec.group,
        session_seconds=kafka.session_seconds,
        listener=assignment,
        max_records=spec.max_records,
        description=spec.summary,
    )

    @subscriber
    async def fold_batch(records: list[LogRecord], projector: Annotated[Projector[Any], Context("projector")]) -> None:
        with assignment.in_flight():
            await projector.fold(records)

    broker.include_router(router)
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
            init=prepare_connection,
            server_settings=_BOUNDS,
        )
        try:
            async with open_projection(pool) as projection:
                assignment.open(lambda: subscriber.consumer, StartPositions(pool, name, topic).find)
                projector = Projector(pool, projection, assignment)
                await projector.unpark()
                app.context.set_global("projector", projector)
                health.watch = LagMonitor(pool, name, topic, assignment)
                try:
                    async with background_task(health.watch.run()):
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
            title=spec.title or f"Lodestream {name} projection",
            version=code_version().split()[-1],
            description=f"Reads {topic} and {spec.description or f'keeps the {name} read model'}.",
        ),
        asyncapi_path="/docs",
    )
    return app


@asynccontextmanager
async def background_task(work: Awaitable[None]) -> AsyncIterator[None]:
    """Let something run beside the body, and end with it."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
