"""What one projection adds to the ground that all of them share."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import asyncpg
from lodestream_proto.v1.event_pb2 import Event

from shared.event_log.codec import LogRecord
from shared.projection.dead_letters import DeadLetter

Prepared = TypeVar("Prepared")
SAMPLE_PROJECT = "lodestream-sample"
SAMPLE_EVENT_ID = "01890000-0000-7000-8000-000000000000"
"""Of the events that projections try themselves on; nothing of them is ever committed."""


class Projection(Protocol[Prepared]):
    """Which records come to what, and how that is written."""

    name: str
    """In the positions, the dead letters and the metrics; also the schema of its tables."""
    topic: str

    def items(self, event: Event) -> int:
        """How many things of their own, each of which may be set aside, an event tells."""
        ...

    def sample(self) -> Event:
        """An event that must always fold. When it does not, our code or schema is at fault, and no data."""
        ...

    async def prepare(self, records: Sequence[LogRecord]) -> Prepared:
        """What can be done before the fence is taken, so that nobody waits for it. Records of one partition, in order.

        What can't be folded is no error: it becomes a dead letter when it is written.
        """
        ...

    async def write(
        self, connection: asyncpg.Connection, records: Sequence[LogRecord], prepared: Prepared
    ) -> list[DeadLetter]:
        """Write what the records were prepared to, in the fence's transaction; returns what was set aside there.

        Raises what may pass; the batch comes again.
        """
        ...
