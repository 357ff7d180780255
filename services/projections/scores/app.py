"""The application: scores of the log into the scores read model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from faststream.asgi import AsgiFastStream

from services.projections.scores.scores import ScoresProjection
from services.projections.scores.subscriber import assignment, router, subscriber
from services.projections.scores.tables import NAME, prepare_connection
from shared.event_log.topics import SCORES
from shared.read_model.projecting.app import Parts, make_app
from shared.runtime.settings import KafkaSettings, PostgresSettings, ScoresProjectionSettings


def create_app(
    kafka: KafkaSettings | None = None,
    postgres: PostgresSettings | None = None,
    projection: ScoresProjectionSettings | None = None,
) -> AsgiFastStream:
    """The application for these settings, by default the environment's."""
    parts = Parts(
        name=NAME, topic=SCORES, router=router, subscriber=subscriber, assignment=assignment,
        open=_open, prepare_connection=prepare_connection,
    )  # fmt: skip
    return make_app(
        parts,
        kafka=kafka or KafkaSettings(),
        postgres=postgres or PostgresSettings(),
        group=(projection or ScoresProjectionSettings()).group,
    )


@asynccontextmanager
async def _open(_pool: asyncpg.Pool) -> AsyncIterator[ScoresProjection]:
    yield ScoresProjection()
