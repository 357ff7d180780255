"""The prompts projection: records to commands before the fence, commands to verdicts and rows within."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import asyncpg
from faststream.asgi import AsgiFastStream
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.prompt_event_pb2 import PromptVersionCreated

from services.projections.prompts.commands import Command, command_of
from services.projections.prompts.decide import Decision, Prompt, decide
from services.projections.prompts.outbox import OutboxRelay
from services.projections.prompts.tables import load, write
from shared.event_log.codec import LogRecord
from shared.event_log.projections import PROMPTS_PROJECTION
from shared.event_log.topics import PROMPTS
from shared.projection.app import background_task, make_app
from shared.projection.dead_letters import DeadLetter, set_aside, whole
from shared.projection.projection import SAMPLE_EVENT_ID, SAMPLE_PROJECT
from shared.projection.records import ReadRecords, read_records
from shared.projection.refused import write_or_bisect
from shared.runtime.failpoints import failpoint
from shared.runtime.settings import KafkaSettings, PostgresSettings, RedisSettings
from shared.storage.prompt_cache import PromptCache

NAME = "prompts"
"""The projection's name in the positions, the dead letters and the metrics."""
_REDIS_SECONDS = 1.0  # nobody waits for what is offered to it here


def create_app(
    kafka: KafkaSettings | None = None,
    postgres: PostgresSettings | None = None,
    group: str | None = None,
    redis: RedisSettings | None = None,
) -> AsgiFastStream:
    """Make the application for these settings, by default the environment's."""
    url = (redis or RedisSettings()).url

    @asynccontextmanager
    async def open_projection(pool: asyncpg.Pool) -> AsyncIterator[PromptsProjection]:
        cache = PromptCache(url, seconds=_REDIS_SECONDS)
        try:
            async with background_task(OutboxRelay(pool, cache).run()):
                yield PromptsProjection()
        finally:
            await cache.aclose()

    return make_app(PROMPTS_PROJECTION, open_projection, kafka=kafka, postgres=postgres, group=group)


class PromptsProjection:
    """Commands become verdicts, and what they change."""

    name = NAME
    topic = PROMPTS

    def items(self, _event: Event) -> int:
        """An event is one command."""
        return 1

    def sample(self) -> Event:
        """A first version of a text prompt."""
        created = PromptVersionCreated(prompt_name="sample", text="sample")
        return Event(event_id=SAMPLE_EVENT_ID, project_id=SAMPLE_PROJECT, prompt_version_created=created)

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
        refused = await write_or_bisect(connection, prepared.values, partial(_decide_all, connection))
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
