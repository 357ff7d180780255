"""WatchPrompts: each change of a prompt is looked up once, and offered to every stream that watches it."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import grpc
import structlog
from lodestream_proto.v1.prompts_pb2 import PromptOutcome, PromptSelector, WatchPromptsRequest, WatchPromptsResponse

from services.write.gateway import metrics
from services.write.gateway.admission import Admission
from services.write.gateway.prompts.head_cache import Head, Key
from services.write.gateway.prompts.lookup import Caller, Store, caller_of
from services.write.gateway.write_rpc import check_count, read
from shared.rules.prompts import check_selector
from shared.runtime.fairness import FairLimiter
from shared.runtime.refusal import Context, InvalidError, RefusedError, UnavailableError, answering
from shared.runtime.settings import GatewaySettings
from shared.storage.prompt_cache import CacheAwayError, PromptCache

_STREAM_WEIGHT = 10
"""A stream takes the memory of some prompts, whatever it watches."""
_NOTHING = -1
"""Below the revision 0 of a prompt that does not exist: that is news too."""


class Stream:
    """What a client watches; of each prompt the newest head that it has not been sent."""

    def __init__(self, caller: Caller, request: WatchPromptsRequest, now: float) -> None:
        self.caller = caller
        self.selectors: Mapping[Key, Sequence[PromptSelector]] = _by_prompt(caller.project_id, request)
        self.weight = _STREAM_WEIGHT + len(request.prompts)
        """How many watched prompts it counts as."""
        self.ended: RefusedError | None = None
        self.is_new = True
        """The first response comes at once, whether there is news or not."""
        self._has: dict[Key, int] = {}
        for watched in request.prompts:
            key, known = (caller.project_id, watched.prompt.name), watched.known_revision or _NOTHING
            self._has[key] = min(known, self._has.get(key, known))
        self._held_at = dict.fromkeys(self._has, now)
        self._pending: dict[Key, _Pending] = {}
        self._wake = asyncio.Event()

    def known(self, key: Key) -> int:
        """The revision that the client has; 0 for nothing."""
        return max(0, self._has[key])

    def offer(self, key: Key, head: Head) -> None:
        """A head that may be news; what the client has, or would get anyhow, is none."""
        pending = self._pending.get(key)
        if head.revision > (pending.head.revision if pending else self._has[key]):
            self._pending[key] = _Pending(head, deque(self.selectors[key]))
            self._wake.set()

    def held(self, key: Key, now: float) -> None:
        """The prompt was looked at: what the client has, or will be sent, is true."""
        self._held_at[key] = now

    @property
    def held_since(self) -> float:
        """When the prompt was looked at that was not looked at for the longest time."""
        return min(self._held_at.values())

    def end(self, refused: RefusedError) -> None:
        """The client is to be told this, and nothing more."""
        self.ended = refused
        self._wake.set()

    async def news(self, within: float) -> bool:
        """Whether there is something to send, or the end; waits so many seconds for it."""
        if self._wake.is_set():
            return True
        try:
            async with asyncio.timeout(within):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> tuple[Key, Head, PromptSelector] | None:
        """What is to be sent next, of one selector; None: there is nothing. The client has it then."""
        for key, pending in self._pending.items():
            selector = pending.selectors.popleft()
            if not pending.selectors:
                self._has[key] = pending.head.revision
                del self._pending[key]
            return key, pending.head, selector
        if self.ended is None:
            self._wake.clear()
        return None


@dataclass(frozen=True, slots=True)
class _Pending:
    """A head, and the selectors of the client that it has not been sent for yet."""

    head: Head
    selectors: deque[PromptSelector]


def _by_prompt(project_id: str, request: WatchPromptsRequest) -> dict[Key, list[PromptSelector]]:
    found: dict[Key, list[PromptSelector]] = {}
    for watched in request.prompts:
        found.setdefault((project_id, watched.prompt.name), []).append(watched.prompt)
    return found


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


log = structlog.get_logger()
_PAUSE_SECONDS = 1.0


class Telling:
    """Listens for ever; after each pause in it, everything may have changed."""

    def __init__(self, redis: PromptCache) -> None:
        self._redis = redis
        self.listens = False
        """Changes are told of now."""

    async def run(self, store: Store, watching: Watching) -> None:
        """Until cancelled."""
        said = ""
        while True:
            try:
                async for change in self._redis.changes():
                    if change is None:
                        self.listens, said = True, ""
                        store.doubt_all()
                        watching.look_at_all()
                    else:
                        key = (change.project_id, change.name)
                        store.tell(key, change.revision)
                        watching.look(key)
            except CacheAwayError as error:
                if said != (said := str(error)):
                    log.warning("no changes of prompts are told; they are looked for", error=said)
            finally:
                self.listens = False
            await asyncio.sleep(_PAUSE_SECONDS)
