"""WatchPrompts: each change of a prompt is looked up once, and offered to every stream that watches it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial

import grpc
from lodestream_proto.v1.prompts_pb2 import PromptOutcome, WatchPromptsRequest, WatchPromptsResponse

from services.write.gateway import metrics
from services.write.gateway.admission import Admission
from services.write.gateway.prompts.caller import caller_of
from services.write.gateway.prompts.head import Head
from services.write.gateway.prompts.memory import Key
from services.write.gateway.prompts.requests import check_count, read
from services.write.gateway.prompts.store import Store
from services.write.gateway.prompts.watched import Stream
from shared.rules.prompts import check_selector
from shared.runtime.fairness import FairLimiter
from shared.runtime.refusal import Context, InvalidError, RefusedError, UnavailableError, answering
from shared.runtime.settings import GatewaySettings

MAX_WATCHED = 1_000
"""Prompts in one stream."""
SIGN_SECONDS = 10.0
"""After so long without news the client gets a sign of life."""
_LOOK_SECONDS, _BLIND_LOOK_SECONDS = 10.0, 3.0
"""Between two looks at all that is watched: while changes are told, and while they are not."""
_DOUBT_SECONDS, _GIVE_UP_SECONDS = 30.0, 60.0
"""Without a look that succeeded: no more signs of life; the end of the stream."""
_REFUSED_AFTER_SECONDS, _MOST_WAITING = 1.0, 100
"""Who watches too much waits for the refusal: one that calls again at once takes less of our time."""
_ENOUGH_BYTES = 1024 * 1024
"""Of changes for one message; clients take 4 MiB by default."""


@dataclass(slots=True)
class _Watched:
    """A prompt that somebody watches."""

    streams: set[Stream] = field(default_factory=set)
    looking: asyncio.Task[None] | None = None
    again: bool = False
    """It changed while it was being looked at."""


class Watching:
    """All streams of this process."""

    def __init__(
        self,
        admission: Admission,
        store: Store,
        *,
        told: Callable[[], bool],
        settings: GatewaySettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`told` says whether changes are told of at present."""
        self._room = FairLimiter(
            "watched prompts",
            settings.watched_prompts,
            per_tenant=settings.watched_prompts_per_project,
            wait_seconds=_REFUSED_AFTER_SECONDS,
            max_waiting=_MOST_WAITING,
        )
        self._admission, self._store, self._told, self._clock = admission, store, told, clock
        self._watched: dict[Key, _Watched] = {}
        self._streams: set[Stream] = set()
        self._draining = False

    def look(self, key: Key) -> None:
        """The prompt may have changed: look it up, once for all who watch it."""
        if (watched := self._watched.get(key)) is None:
            return
        watched.again = True
        if watched.looking is None:
            watched.looking = asyncio.create_task(self._look(key, watched))

    def look_at_all(self) -> None:
        """Any prompt may have changed."""
        for key in list(self._watched):
            self.look(key)

    async def run(self) -> None:
        """Look at all from time to time, for ever: what nobody told of is seen as well."""
        while True:
            looked_at = self._clock()
            while self._clock() - looked_at < (_LOOK_SECONDS if self._told() else _BLIND_LOOK_SECONDS):
                await asyncio.sleep(0.5)
            self.look_at_all()

    def drain(self) -> None:
        """End all streams: their clients come back elsewhere, with what they have."""
        self._draining = True
        for stream in self._streams:
            stream.end(UnavailableError("the gateway is going away: connect again", retry_seconds=0.1))

    async def stream(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        """WatchPrompts, bytes to bytes."""
        stream = await answering("WatchPrompts.open", context, lambda: self._open(request, context))
        try:
            await answering("WatchPrompts.open", context, lambda: self._look_first(stream))
            while True:
                yield await answering("WatchPrompts", context, partial(self._next, stream))
        finally:
            self._close(stream)

    async def _open(self, request: bytes, context: Context) -> Stream:
        caller = await caller_of(self._admission, context)
        asked = read(WatchPromptsRequest, request)
        check_count(asked.prompts, "prompts", most=MAX_WATCHED)
        if not asked.prompts:
            raise InvalidError("prompts", "are missing")
        for n, watched in enumerate(asked.prompts):
            check_selector(watched.prompt, f"prompts[{n}].prompt")
        stream = Stream(caller, asked, self._clock())
        await self._room.acquire(caller.project_id, stream.weight)
        self._streams.add(stream)
        for key in stream.selectors:
            self._watched.setdefault(key, _Watched()).streams.add(stream)
        metrics.PROMPT_WATCHERS.set(len(self._streams))
        if self._draining:
            self.drain()
        return stream

    def _close(self, stream: Stream) -> None:
        self._room.release(stream.caller.project_id, stream.weight)
        self._streams.discard(stream)
        for key in stream.selectors:
            watched = self._watched[key]
            watched.streams.discard(stream)
            if not watched.streams:
                del self._watched[key]
                if watched.looking:
                    watched.looking.cancel()
        metrics.PROMPT_WATCHERS.set(len(self._streams))

    async def _look_first(self, stream: Stream) -> None:
        async def look(key: Key) -> None:
            stream.offer(key, await self._store.head(key, stream.caller, at_least=stream.known(key)))

        await asyncio.gather(*(look(key) for key in stream.selectors))

    async def _next(self, stream: Stream) -> bytes:
        """The next message, as soon as there is something to say: changes, or a sign of life."""
        while True:
            first, stream.is_new = stream.is_new, False
            news = await stream.news(0 if first else SIGN_SECONDS)
            if stream.ended:
                raise stream.ended
            if news:
                if changes := await self._changes(stream):
                    return changes
                stream.is_new = first
                continue
            silence = self._clock() - stream.held_since
            if silence > _GIVE_UP_SECONDS:
                raise UnavailableError("nobody can tell whether what was sent still holds")
            if first or silence < _DOUBT_SECONDS:
                return WatchPromptsResponse().SerializeToString()

    async def _changes(self, stream: Stream) -> bytes:
        """One message of what has changed, empty for nothing: the rest is made when the client has room for it."""
        changes, size = list[PromptOutcome](), 0
        while size <= _ENOUGH_BYTES and (taken := stream.take()):
            key, head, selector = taken
            await self._store.complete(key, head, head.number_of(selector), stream.caller)
            changes.append(outcome := head.outcome(selector))
            size += outcome.ByteSize()
        if not changes:
            return b""
        metrics.PROMPT_CHANGES.inc()
        return WatchPromptsResponse(changes=changes).SerializeToString()

    async def _look(self, key: Key, watched: _Watched) -> None:
        try:
            while watched.again and (asking := next((each for each in watched.streams if not each.ended), None)):
                watched.again = False
                try:
                    head = await self._store.head(key, asking.caller, or_stale=False)
                except RefusedError as refused:
                    if refused.code == grpc.StatusCode.UNAUTHENTICATED:
                        asking.end(refused)
                        watched.again = True  # on behalf of another
                    continue  # a look at all comes soon
                self._offer(key, head, watched)
        finally:
            watched.looking = None

    def _offer(self, key: Key, head: Head, watched: _Watched) -> None:
        now = self._clock()
        for stream in watched.streams:
            stream.offer(key, head)
            stream.held(key, now)
