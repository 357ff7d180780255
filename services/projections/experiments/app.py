"""The application: datasets and runs of the log into the experiments read model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from faststream.asgi import AsgiFastStream

from services.projections.experiments.analyzing import keep_analyzed
from services.projections.experiments.experiments import NAME, ExperimentsProjection
from services.projections.experiments.subscriber import assignment, router, subscriber
from shared.event_log.topics import EXPERIMENTS
from shared.read_model.projecting.app import Parts, beside, make_app
from shared.runtime.settings import ExperimentsProjectionSettings, KafkaSettings, PostgresSettings


def create_app(
    kafka: KafkaSettings | None = None,
    postgres: PostgresSettings | None = None,
    projection: ExperimentsProjectionSettings | None = None,
) -> AsgiFastStream:
    """The application for these settings, by default the environment's."""
    parts = Parts(
        name=NAME, topic=EXPERIMENTS, router=router, subscriber=subscriber, assignment=assignment, open=_open
    )  # fmt: skip
    return make_app(
        parts,
        kafka=kafka or KafkaSettings(),
        postgres=postgres or PostgresSettings(),
        group=(projection or ExperimentsProjectionSettings()).group,
    )


@asynccontextmanager
async def _open(pool: asyncpg.Pool) -> AsyncIterator[ExperimentsProjection]:
    async with beside(keep_analyzed(pool, NAME)):
        yield ExperimentsProjection()
