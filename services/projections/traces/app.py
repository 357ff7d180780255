"""The application: spans of the log into the traces read model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from faststream.asgi import AsgiFastStream

from services.projections.traces.storing.partitions import Partitions
from services.projections.traces.storing.tables import NAME, prepare_connection
from services.projections.traces.subscriber import assignment, router, subscriber
from services.projections.traces.traces import TracesProjection
from shared.event_log.topics import TRACES
from shared.read_model.projecting.app import Parts, beside, make_app
from shared.runtime.settings import KafkaSettings, PostgresSettings, TracesProjectionSettings


def create_app(
    kafka: KafkaSettings | None = None,
    postgres: PostgresSettings | None = None,
    projection: TracesProjectionSettings | None = None,
) -> AsgiFastStream:
    """The application for these settings, by default the environment's."""
    parts = Parts(
        name=NAME, topic=TRACES, router=router, subscriber=subscriber, assignment=assignment,
        open=_open, prepare_connection=prepare_connection,
    )  # fmt: skip
    return make_app(
        parts,
        kafka=kafka or KafkaSettings(),
        postgres=postgres or PostgresSettings(),
        group=(projection or TracesProjectionSettings()).group,
    )


@asynccontextmanager
async def _open(pool: asyncpg.Pool) -> AsyncIterator[TracesProjection]:
    partitions = Partitions(pool)
    async with beside(partitions.keep_ahead()):
        yield TracesProjection(partitions)
