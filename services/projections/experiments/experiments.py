"""The experiments projection: records to commands before the fence, commands to rows within."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import DatasetCreated

from services.projections.experiments.commands import Command, StrayRecordError, command_of
from services.projections.experiments.decide import decide_all
from services.projections.experiments.load import load
from services.projections.experiments.tables import write
from shared.event_log.codec import Recorded
from shared.event_log.topics import EXPERIMENTS
from shared.read_model.dead_letters import DeadLetter, set_aside, whole
from shared.read_model.experiment_ids import dataset_id_of
from shared.read_model.projecting.projection import SAMPLE_EVENT_ID, SAMPLE_PROJECT
from shared.read_model.projecting.refused import write_refusing
from shared.runtime.failpoints import failpoint
from shared.runtime.memory import raise_if_out_of_memory

NAME = "experiments"
"""The projection's name in the positions, the dead letters and the metrics."""


@dataclass(slots=True)
class Prepared:
    """The commands in records, in order, and what has to be set aside."""

    commands: list[Command] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)


class ExperimentsProjection:
    """Commands change datasets and runs."""

    name = NAME
    topic = EXPERIMENTS

    def items(self, event: Event) -> int:  # noqa: ARG002 - every event is one
        """One: the command."""
        return 1

    def sample(self) -> Event:
        """A new dataset."""
        created = DatasetCreated(dataset_id=dataset_id_of("sample"), name="sample")
        return Event(event_id=SAMPLE_EVENT_ID, project_id=SAMPLE_PROJECT, dataset_created=created)

    async def prepare(self, records: Sequence[Recorded]) -> Prepared:
        """Which commands there are."""
        prepared = Prepared()
        for record in records:
            try:
                prepared.commands.append(command_of(record))
            except StrayRecordError as error:
                prepared.dead_letters.append(whole(record, str(error)))
            except Exception as error:
                raise_if_out_of_memory(error)
                prepared.dead_letters.append(whole(record, f"{type(error).__name__}: {error}"))
        return prepared

    async def write(
        self,
        connection: asyncpg.Connection,
        records: Sequence[Recorded],  # noqa: ARG002 - the commands hold theirs
        prepared: Prepared,
    ) -> list[DeadLetter]:
        """Decide the commands and write what they come to. What the database refuses costs only itself."""
        without_subject: list[tuple[Command, str]] = []

        async def decide_and_write(commands: Sequence[Command]) -> None:
            decided = decide_all(await load(connection, commands), commands)
            await write(connection, decided)
            without_subject.extend(decided.refused)  # last, since what fails is done again in halves

        refused = await write_refusing(connection, prepared.commands, decide_and_write)
        letters = prepared.dead_letters + [whole(its.record, reason) for its, reason in without_subject + refused]
        await failpoint("experiments.written")
        if letters:
            await set_aside(connection, NAME, letters)
        return letters
