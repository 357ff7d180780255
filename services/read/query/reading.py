"""What every read does: the project of its key, the wait it asks for, the answer, and how fresh that is."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from services.read.query.database import Database
from services.read.query.freshness import LogEnds, freshness, wait_for
from services.read.query.refusal import answering
from shared.event_log.topics import TRACES
from shared.read_model.authentication import Authenticator
from shared.read_model.caller import project_of
from shared.runtime.refusal import Answer, Context


@dataclass(frozen=True, slots=True)
class Reads:
    """The reads of one database."""

    database: Database
    keys: Authenticator
    log_ends: LogEnds

    async def answer(
        self,
        read: Callable[[Database, str, Any], Awaitable[Answer]],
        request: Any,
        context: Context,
        topics: Sequence[str] = (TRACES,),
    ) -> Answer:
        """A read's answer; or its refusal as a status.

        With the freshness of the topics it is folded from, and after the wait it asks for. Some messages have no place
        for the one (then there are no `topics`) or the other.
        """

        async def ask() -> Answer:
            project_id = await project_of(self.keys, context)
            if "wait_for" in request.DESCRIPTOR.fields_by_name:
                await wait_for(self.database, request.wait_for, context.time_remaining())
            if not topics:
                return await read(self.database, project_id, request)
            fresh = await freshness(self.database, self.log_ends, topics)  # before the read: what comes later only adds
            response: Any = await read(self.database, project_id, request)
            response.freshness.CopyFrom(fresh)
            answer: Answer = response
            return answer

        return await answering(type(request).__name__.removesuffix("Request"), context, ask)
