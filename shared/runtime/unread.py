"""Answers that are not read yet: gRPC holds them as long as the client likes; here they have a bound."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from shared.runtime.fairness import FairLimiter
from shared.runtime.refusal import Context
from shared.runtime.token_bucket import Buckets

MESSAGE_BYTES_PER_SECOND = 8 * 1024 * 1024
"""Large messages of all streams of one project: copying them takes the process's time, however fast they are read."""
_SMALL = 16 * 1024  # bytes; a connection has a hundred calls at once


def when_over(context: Context, then: Callable[[], None]) -> None:
    """Call `then` when the call has ended: its answer has been read, or its client has gone."""
    call: Any = context  # grpc-stubs asks for a type that no callback has
    call.add_done_callback(lambda _: then())


class UnreadAnswers:
    """Bytes of large answers and of streams' messages, until the client has read them or has gone."""

    def __init__(
        self,
        capacity: int,
        *,
        per_project: int,
        wait_seconds: float,
        max_waiting: int = 1_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`capacity` and `per_project` are bytes; the rest is as for FairLimiter."""
        self._clock = clock
        self._sent = Buckets(MESSAGE_BYTES_PER_SECOND, MESSAGE_BYTES_PER_SECOND, clock)
        self._limiter = FairLimiter(
            "bytes of unread answers",
            capacity,
            per_tenant=per_project,
            wait_seconds=wait_seconds,
            max_waiting=max_waiting,
        )

    async def hold(self, nbytes: int, project_id: str, context: Context) -> None:
        """Count an answer's bytes until its call has ended.

        Raises OverloadedError: the project reads too little of what it asks for.
        """
        if nbytes <= _SMALL:
            return
        amount = self._limiter.share(nbytes)
        await self._limiter.acquire(project_id, amount)
        when_over(context, partial(self._limiter.release, project_id, amount))

    @asynccontextmanager
    async def message(self, nbytes: int, project_id: str) -> AsyncIterator[None]:
        """Count a message of a stream while this is entered: until the stream may send the next one.

        A project's large messages come at MESSAGE_BYTES_PER_SECOND, after a burst of a second.

        Raises OverloadedError, as `hold` does.
        """
        if nbytes <= _SMALL:
            yield
            return
        await asyncio.sleep(self.reserve(nbytes, project_id))
        async with self._limiter.hold(project_id, nbytes):
            yield

    def reserve(self, nbytes: int, project_id: str) -> float:
        """Take a place for a message among those of a project; returns the seconds until it may be sent."""
        now, bucket = self._clock(), self._sent.of(project_id)
        wait = bucket.wait(now)
        bucket.take(nbytes, now)
        return wait
