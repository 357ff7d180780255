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
        """A read's answer, with the freshness of the topics it is folded from; or its refusal as a status."""

        async def ask() -> Answer:
            project_id = await project_of(self.keys, context)
            await wait_for(self.database, request.wait_for, context.time_remaining())
            fresh = await freshness(self.database, self.log_ends, topics)  # before the read: what comes later only adds
            response: Any = await read(self.database, project_id, request)
            response.freshness.CopyFrom(fresh)
            answer: Answer = response
            return answer

        return await answering(type(request).__name__.removesuffix("Request"), context, ask)
