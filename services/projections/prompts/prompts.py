"""The prompts projection: records to commands before the fence, commands to verdicts and rows within."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import asyncpg
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.prompt_event_pb2 import PromptVersionCreated

from services.projections.prompts.commands import Command, StrayRecordError, command_of
from services.projections.prompts.decide import Decision, Prompt, decide
from services.projections.prompts.tables import load, write
from shared.event_log.codec import Recorded
from shared.event_log.topics import PROMPTS
from shared.read_model.dead_letters import DeadLetter, set_aside, whole
from shared.read_model.projecting.projection import SAMPLE_EVENT_ID, SAMPLE_PROJECT
from shared.read_model.projecting.refused import write_refusing
from shared.runtime.failpoints import failpoint
from shared.runtime.memory import raise_if_out_of_memory

NAME = "prompts"
"""The projection's name in the positions, the dead letters and the metrics."""


@dataclass(slots=True)
class Prepared:
    """The commands in records, in order, and what has to be set aside."""

    commands: list[Command] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)


class PromptsProjection:
    """Commands become verdicts, and what they change."""

    name = NAME
    topic = PROMPTS

    def items(self, event: Event) -> int:  # noqa: ARG002 - every event is one
        """One: the command."""
        return 1

    def sample(self) -> Event:
        """A first version of a text prompt."""
        created = PromptVersionCreated(prompt_name="sample", text="sample")
        return Event(event_id=SAMPLE_EVENT_ID, project_id=SAMPLE_PROJECT, prompt_version_created=created)

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
        refused = await write_refusing(connection, prepared.commands, partial(_decide_all, connection))
        letters = prepared.dead_letters + [whole(command.record, reason) for command, reason in refused]
        if letters:
            await set_aside(connection, NAME, letters)
        await failpoint("prompts.written")
        return letters


async def _decide_all(connection: asyncpg.Connection, commands: Sequence[Command]) -> None:
    prompts, seen = await load(connection, commands)
    decisions: list[tuple[Command, Decision]] = []
    for command in commands:
        place = command.project_id, command.prompt_name
        if (*place, command.command_id) in seen:
            continue  # decided already; the first verdict stands
        seen.add((*place, command.command_id))
        prompt = prompts.get(place) or Prompt(command.prompt_name)
        decision = decide(prompt, command.payload, command.record.appended_at)
        prompts[place] = decision.prompt
        decisions.append((command, decision))
    await write(connection, decisions)
