"""The experiments projection: records to commands before the fence, commands to rows within."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
from faststream.asgi import AsgiFastStream
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import DatasetCreated

from services.projections.experiments.analyzing import keep_analyzed
from services.projections.experiments.commands import Command, command_of
from services.projections.experiments.decide import decide_all
from services.projections.experiments.load import load
from services.projections.experiments.tables import write
from shared.event_log.codec import LogRecord
from shared.event_log.projections import EXPERIMENTS_PROJECTION
from shared.event_log.topics import EXPERIMENTS
from shared.projection.app import background_task, make_app
from shared.projection.dead_letters import DeadLetter, set_aside, whole
from shared.projection.projection import SAMPLE_EVENT_ID, SAMPLE_PROJECT
from shared.projection.records import ReadRecords, read_records
from shared.projection.refused import write_or_bisect
from shared.rules.experiment_ids import dataset_id_of
from shared.runtime.failpoints import failpoint
from shared.runtime.settings import KafkaSettings, PostgresSettings

NAME = "experiments"
"""The projection's name in the positions, the dead letters and the metrics."""


def create_app(
    kafka: KafkaSettings | None = None, postgres: PostgresSettings | None = None, group: str | None = None
) -> AsgiFastStream:
    """Make the application for these settings, by default the environment's."""
    return make_app(EXPERIMENTS_PROJECTION, _open, kafka=kafka, postgres=postgres, group=group)


@asynccontextmanager
async def _open(pool: asyncpg.Pool) -> AsyncIterator["ExperimentsProjection"]:
    async with background_task(keep_analyzed(pool, NAME)):
        yield ExperimentsProjection()


class ExperimentsProjection:
    """Commands change datasets and runs."""

    name = NAME
    topic = EXPERIMENTS

    def items(self, _event: Event) -> int:
        """An event is one command."""
        return 1

    def sample(self) -> Event:
        """A new dataset."""
        created = DatasetCreated(dataset_id=dataset_id_of("sample"), name="sample")
        return Event(event_id=SAMPLE_EVENT_ID, project_id=SAMPLE_PROJECT, dataset_created=created)

    async def prepare(self, records: Sequence[LogRecord]) -> ReadRecords[Command]:
        """Read the commands."""
        return read_records(records, command_of)

    async def write(
        self,
        connection: asyncpg.Connection,
        records: Sequence[LogRecord],  # noqa: ARG002 - the commands hold theirs
        prepared: ReadRecords[Command],
    ) -> list[DeadLetter]:
        """Decide the commands and write what they come to. What the database refuses costs only itself."""
        without_subject: list[tuple[Command, str]] = []

        async def decide_and_write(commands: Sequence[Command]) -> None:
            decided = decide_all(await load(connection, commands), commands)
            await write(connection, decided)
            without_subject.extend(decided.refused)  # last, since what fails is done again in halves

        refused = await write_or_bisect(connection, prepared.values, decide_and_write)
        letters = prepared.dead_letters + [whole(its.record, reason) for its, reason in without_subject + refused]
        await failpoint("experiments.written")
        if letters:
            await set_aside(connection, NAME, letters)
        return letters
