"""The fold: records to meanings before the fence, meanings to rows within."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import asyncpg
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import ExperimentCancelled

from services.write.evaluator.fold import Asked, Folded, Result, Turn, fold
from services.write.evaluator.folding.tables import keep_asked, keep_results, take_turns, wake
from shared.event_log.codec import Recorded
from shared.event_log.topics import EXPERIMENTS
from shared.read_model.dead_letters import DeadLetter, set_aside, whole
from shared.read_model.projecting.projection import SAMPLE_EVENT_ID, SAMPLE_PROJECT
from shared.read_model.projecting.refused import write_refusing
from shared.runtime.failpoints import failpoint

Meant = TypeVar("Meant", Asked, Result, Turn)
NAME = "evaluator"
"""The fold's name in the positions, the dead letters and the metrics; also the schema."""


class RunsFold:
    """What is asked becomes runs, results become jobs that are done, turns move runs."""

    name = NAME
    topic = EXPERIMENTS

    def items(self, _event: Event) -> int:
        """An event says one thing."""
        return 1

    def sample(self) -> Event:
        """The end of a run that nobody started."""
        cancelled = ExperimentCancelled(run_id="sample")
        return Event(event_id=SAMPLE_EVENT_ID, project_id=SAMPLE_PROJECT, experiment_cancelled=cancelled)

    async def prepare(self, records: Sequence[Recorded]) -> Folded:
        """All that can be read."""
        return fold(records)

    async def write(
        self,
        connection: asyncpg.Connection,
        records: Sequence[Recorded],  # noqa: ARG002 - what is prepared holds them
        prepared: Folded,
    ) -> list[DeadLetter]:
        """Write the rows; what the database refuses is set aside."""
        letters = [
            *await _kept(connection, prepared.asked, keep_asked),
            *await _kept(connection, prepared.results, keep_results),
            *await _kept(connection, prepared.turns, take_turns),
        ]
        if letters:
            await set_aside(connection, NAME, letters)
        if prepared.asked or prepared.turns:
            await wake(connection)
        await failpoint("evaluator.folded")
        return letters


async def _kept(
    connection: asyncpg.Connection,
    meant: Sequence[Meant],
    keep: Callable[[asyncpg.Connection, Sequence[Meant]], Awaitable[None]],
) -> list[DeadLetter]:
    refused = await write_refusing(connection, meant, partial(keep, connection))
    return [whole(each.record, reason) for each, reason in refused]
