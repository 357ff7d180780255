"""The FastStream application: the route, its resources, and three pages (/health, /metrics, /docs)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from faststream.asgi import AsgiFastStream
from faststream.specification import AsyncAPI
from prometheus_client import make_asgi_app

from services.projections.traces.health import Health
from services.projections.traces.partitions import Partitions
from services.projections.traces.places import Places
from services.projections.traces.projector import IN_FLIGHT, Projector
from services.projections.traces.subscriber import assignment, router, subscriber
from services.projections.traces.tables import prepare_connection
from services.projections.traces.waiting import wait_for_postgres, wait_for_topic
from services.projections.traces.watch import Watch
from shared.event_log.broker import kafka_broker
from shared.event_log.topics import TRACES
from shared.read_model.dead_letters import code_version
from shared.read_model.postgres import connect_pool
from shared.runtime.settings import KafkaSettings, PostgresSettings, TracesProjectionSettings

_BOUNDS = {"idle_in_transaction_session_timeout": "10s", "lock_timeout": "10s", "statement_timeout": "30s"}


def create_app(
    kafka: KafkaSettings | None = None,
    postgres: PostgresSettings | None = None,
    projection: TracesProjectionSettings | None = None,
) -> AsgiFastStream:
    """The application for these settings (by default the environment's); nothing is connected before its lifespan."""
    kafka, postgres = kafka or KafkaSettings(), postgres or PostgresSettings()
    projection = projection or TracesProjectionSettings()
    broker = kafka_broker(kafka, client_id="lodestream-projection-traces")
    broker.include_router(router)
    subscriber.group_id = projection.group
    health = Health()

    @asynccontextmanager
    async def resources() -> AsyncIterator[None]:
        await wait_for_postgres(postgres.dsn)
        await wait_for_topic(kafka, TRACES)
        pool = await connect_pool(
            postgres.dsn, application="projection-traces", max_size=2 * IN_FLIGHT + 2, init=prepare_connection,
            server_settings=_BOUNDS,
        )  # fmt: skip
        partitions = Partitions(pool)
        assignment.open(lambda: subscriber.consumer, Places(pool).find)
        app.context.set_global("projector", Projector(pool, partitions, assignment))
        health.watch = Watch(pool, partitions, assignment)
        watching = asyncio.create_task(health.watch.run())
        try:
            yield
        finally:
            health.watch = None
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            await assignment.close()
            await pool.close()

    app = AsgiFastStream(
        broker,
        logger=None,
        lifespan=resources,
        asgi_routes=[("/health", health.page), ("/metrics", make_asgi_app())],
        specification=AsyncAPI(
            title="Lodestream traces projection", version=code_version().split()[-1],
            description="Reads the spans of the event log and keeps the traces read model.",
        ),
        asyncapi_path="/docs",
    )  # fmt: skip
    return app
