"""What every read goes through: its project, its turn, the wait that it requests, the answer, and how fresh that is."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self, TypeVar

from services.read.query.database import Database
from services.read.query.freshness import LogEnds, freshness, wait_for
from services.read.query.refusal import answering
from shared.auth.authentication import Authenticator
from shared.auth.caller import project_of
from shared.event_log.topics import TRACES
from shared.runtime.fairness import BulkCalls, FairLimiter, OverloadedError
from shared.runtime.refusal import Answer, Context, refuse
from shared.runtime.settings import QuerySettings
from shared.runtime.unread import UnreadAnswers, when_over

_MANY = 1_000_000
_REFUSED_AFTER_SECONDS = 1.0
"""A project that has too much under way is refused after so long: who calls again at once costs less then."""
_WATCHERS_WAIT_SECONDS, _COMPARISONS_WAIT_SECONDS = 30.0, 30.0
COMPARISONS = 2
"""Comparisons that are under way in a process, at most."""
Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Admission:
    """Limits of what projects have under way in this process; what is beyond is refused with RESOURCE_EXHAUSTED."""

    requests: FairLimiter
    """Reads until their answers have been read, those included that wait for a write or for their turn."""
    calls: FairLimiter
    """Reads that are served."""
    bulk: BulkCalls
    """Reads of projects that use more than their share of time."""
    answers: UnreadAnswers
    """Bytes of large answers that their clients have not read yet."""
    streams: FairLimiter
    """Tails and watches."""
    watched: FairLimiter
    """Readings of watched runs: few at a time, one for each project, however many streams it has."""
    comparisons: FairLimiter
    """Comparisons of runs: each takes a processor and the memory of its runs."""

    @classmethod
    def of(cls, settings: QuerySettings) -> Self:
        """Make the limits that settings say."""
        return cls(
            FairLimiter("reads", _MANY, per_tenant=settings.requests_per_project, wait_seconds=_REFUSED_AFTER_SECONDS),
            FairLimiter(
                "reads", settings.calls, per_tenant=settings.calls_per_project, wait_seconds=settings.wait_seconds
            ),
            BulkCalls(
                settings.bulk_calls,
                fair_share=settings.fair_share,
                wait_seconds=settings.wait_seconds,
            ),
            UnreadAnswers(
                settings.unread_bytes,
                per_project=settings.unread_bytes_per_project,
                wait_seconds=settings.wait_seconds,
            ),
            FairLimiter(
                "streams",
                settings.streams,
                per_tenant=settings.streams_per_project,
                wait_seconds=_REFUSED_AFTER_SECONDS,
            ),
            FairLimiter("readings of watched runs", 2, per_tenant=1, wait_seconds=_WATCHERS_WAIT_SECONDS),
            FairLimiter("comparisons", COMPARISONS, per_tenant=1, wait_seconds=_COMPARISONS_WAIT_SECONDS),
        )


@dataclass(frozen=True, slots=True)
class ReadContext:
    """What all reads of a process share: the database, the keys, the ends of the log and the limits."""

    database: Database
    keys: Authenticator
    log_ends: LogEnds
    admission: Admission = field(default_factory=lambda: Admission.of(QuerySettings()))

    async def run(
        self,
        read: Callable[[Database, str, Any], Awaitable[Answer]],
        request: Any,
        context: Context,
        topics: Sequence[str] = (TRACES,),
    ) -> Answer:
        """Answer a read after the wait that it requests, or end the call with its refusal.

        Args:
            read: The function that reads, given the database, the project and the request.
            request: The request; only some have a field for a wait.
            context: The call.
            topics: Those whose projections are read, for the freshness of the answer; none where the answer has no
                field for it.
        """

        async def admitted() -> Answer:
            project_id = await project_of(self.keys, context)
            self.admission.bulk.tenants.add(project_id)
            await self.admission.requests.acquire(project_id)
            when_over(context, partial(self.admission.requests.release, project_id))
            if "wait_for" in request.DESCRIPTOR.fields_by_name:
                await wait_for(self.database, request.wait_for, context.time_remaining())

            async def serve() -> Answer:
                answer = await self._read(read, project_id, request, topics)
                await self.admission.answers.hold(_size(answer), project_id, context)
                return answer

            room = partial(self.admission.calls.hold, project_id)
            return await self.admission.bulk.serve(project_id, room, serve)

        return await answering(type(request).__name__.removesuffix("Request"), context, admitted)

    async def stream(self, method: str, context: Context, parts: AsyncIterator[Part]) -> AsyncIterator[Part]:
        """Yield the parts of a stream, if its project has not too many, or end the call with its refusal."""

        async def admit() -> str:
            project_id = await project_of(self.keys, context)
            await self.admission.streams.acquire(project_id)
            return project_id

        project_id = await answering(f"{method}.open", context, admit)
        try:
            async with aclosing(parts) as opened:  # type: ignore[type-var]
                async for part in opened:
                    async with self.admission.answers.message(_size(part), project_id):
                        yield part
        except OverloadedError as refused:
            await refuse(method, context, refused)
        finally:
            self.admission.streams.release(project_id)

    async def _read(
        self,
        read: Callable[[Database, str, Any], Awaitable[Answer]],
        project_id: str,
        request: Any,
        topics: Sequence[str],
    ) -> Answer:
        if not topics:
            return await read(self.database, project_id, request)
        fresh = await freshness(self.database, self.log_ends, topics)  # before the read: what comes later only adds
        response: Any = await read(self.database, project_id, request)
        response.freshness.CopyFrom(fresh)
        answer: Answer = response
        return answer


def _size(answer: Any) -> int:
    """Return the bytes of a message, or of an answer that is written in pieces."""
    return int(answer.ByteSize())
