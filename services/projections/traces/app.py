"""The application: spans of the log into the traces read model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from faststream.asgi import AsgiFastStream

from services.projections.traces.storing.partitions import Partitions
from services.projections.traces.storing.tables import prepare_connection
from services.projections.traces.traces import TracesProjection
from shared.read_model.projecting.app import beside, make_app
from shared.read_model.projecting.specs import TRACES_PROJECTION
from shared.runtime.settings import KafkaSettings, PostgresSettings


def create_app(
    kafka: KafkaSettings | None = None, postgres: PostgresSettings | None = None, group: str | None = None
) -> AsgiFastStream:
    """Make the application for these settings, by default the environment's."""
    return make_app(
        TRACES_PROJECTION, _open, kafka=kafka, postgres=postgres, group=group, prepare_connection=prepare_connection
    )


@asynccontextmanager
async def _open(pool: asyncpg.Pool) -> AsyncIterator[TracesProjection]:
    partitions = Partitions(pool)
    async with beside(partitions.keep_ahead()):
        yield TracesProjection(partitions)
