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
from services.write.gateway.parsing import parse_request
from services.write.gateway.prompts.head_cache import Head, Key
from services.write.gateway.prompts.lookup import Caller, PromptLookup, caller_of
from shared.rules.prompts import check_count, check_selector
from shared.runtime.fairness import FairLimiter
from shared.runtime.refusal import Context, InvalidError, RefusedError, UnavailableError, answering
from shared.runtime.settings import GatewaySettings
from shared.storage.prompt_cache import CacheAwayError, PromptCache

log = structlog.get_logger()
MAX_WATCHED = 1_000
"""The most prompts in one stream."""
SIGN_OF_LIFE_SECONDS = 10.0
"""After so long without a change the client gets an empty response."""
_STREAM_WEIGHT = 10
"""A stream takes the memory of so many watched prompts, whatever it watches."""
_NO_REVISION = -1
"""Below the revision 0 of a prompt that does not exist: that is a change too."""
_LOOK_UP_SECONDS, _UNANNOUNCED_LOOK_UP_SECONDS = 10.0, 3.0
"""Between two look-ups of all that is watched: while changes are announced, and while they are not."""
_SILENT_SECONDS, _GIVE_UP_SECONDS = 30.0, 60.0
"""Without a look-up that succeeded: no more signs of life; the end of the stream."""
_REFUSED_AFTER_SECONDS, _MAX_WAITING = 1.0, 100
"""A refusal for watching too much is delayed: a client that calls again at once takes less of our time."""
_FULL_BYTES = 1024 * 1024
"""Changes that are enough for one message; clients take 4 MiB by default."""
_RECONNECT_SECONDS = 1.0


class WatchStream:
    """What one client watches: what it has been sent, and of each prompt the newest head that it has not been sent.

    It is never sent an older revision than it has, and never has a backlog.
    """

    def __init__(self, caller: Caller, request: WatchPromptsRequest, now: float) -> None:
        self.caller = caller
        self.selectors: Mapping[Key, Sequence[PromptSelector]] = _by_prompt(caller.project_id, request)
        self.weight = _STREAM_WEIGHT + len(request.prompts)
        """How many watched prompts it counts as."""
        self.ended: RefusedError | None = None
        self.is_new = True
        """The first response comes at once, whether there is a change or not."""
        self._has: dict[Key, int] = {}
        for watched in request.prompts:
            key, revision = (caller.project_id, watched.prompt.name), watched.known_revision or _NO_REVISION
            self._has[key] = min(revision, self._has.get(key, revision))
        self._confirmed_at = dict.fromkeys(self._has, now)
        self._pending: dict[Key, _PendingHead] = {}
        self._wake = asyncio.Event()

    def revision(self, key: Key) -> int:
        """Return the revision that the client has; 0 for none."""
        return max(0, self._has[key])

    def offer(self, key: Key, head: Head) -> None:
        """Have a head sent, unless the client has it, or will get it or a newer one anyhow."""
        pending = self._pending.get(key)
        if head.revision > (pending.head.revision if pending else self._has[key]):
            self._pending[key] = _PendingHead(head, deque(self.selectors[key]))
            self._wake.set()

    def confirm(self, key: Key, now: float) -> None:
        """Note that the prompt was looked up: what the client has, or will be sent, holds."""
        self._confirmed_at[key] = now

    @property
    def confirmed_since(self) -> float:
        """When the prompt was looked up whose last look-up is the longest ago."""
        return min(self._confirmed_at.values())

    def end(self, refused: RefusedError) -> None:
        """End the stream with this status."""
        self.ended = refused
        self._wake.set()

    async def wait(self, within: float) -> bool:
        """Return whether there is something to send, or the stream has ended; waits so many seconds for it."""
        if self._wake.is_set():
            return True
        try:
            async with asyncio.timeout(within):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> tuple[Key, Head, PromptSelector] | None:
        """Return what is to be sent next, for one selector, as sent; None when there is nothing."""
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
class _PendingHead:
    """A head, and the selectors of the client that it has not been sent for yet."""

    head: Head
    selectors: deque[PromptSelector]


def _by_prompt(project_id: str, request: WatchPromptsRequest) -> dict[Key, list[PromptSelector]]:
    selectors: dict[Key, list[PromptSelector]] = {}
    for watched in request.prompts:
        selectors.setdefault((project_id, watched.prompt.name), []).append(watched.prompt)
    return selectors


@dataclass(slots=True)
class _WatchedPrompt:
    """The streams that watch a prompt, and the look-up of it that is under way."""

    streams: set[WatchStream] = field(default_factory=set)
    look_up: asyncio.Task[None] | None = None
    again: bool = False
    """It may have changed since the look-up began."""


class PromptWatches:
    """All streams of WatchPrompts in this process."""

    def __init__(
        self,
        admission: Admission,
        lookup: PromptLookup,
        *,
        is_listening: Callable[[], bool],
        settings: GatewaySettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`is_listening` returns whether changes are announced at present; `clock` is in seconds."""
        self._room = FairLimiter(
            "watched prompts",
            settings.watched_prompts,
            per_tenant=settings.watched_prompts_per_project,
            wait_seconds=_REFUSED_AFTER_SECONDS,
            max_waiting=_MAX_WAITING,
        )
        self._admission, self._lookup, self._is_listening, self._clock = admission, lookup, is_listening, clock
        self._watched: dict[Key, _WatchedPrompt] = {}
        self._streams: set[WatchStream] = set()
        self._draining = False

    def methods(self) -> "dict[str, grpc.RpcMethodHandler[bytes, bytes]]":
        """Return the handler of the RPC by name, from bytes to bytes."""
        return {"WatchPrompts": grpc.unary_stream_rpc_method_handler(self.watch)}

    def refresh(self, key: Key) -> None:
        """Look a prompt up that may have changed, once for all who watch it."""
        if (watched := self._watched.get(key)) is None:
            return
        watched.again = True
        if watched.look_up is None:
            watched.look_up = asyncio.create_task(self._look_up(key, watched))

    def refresh_all(self) -> None:
        """Look up all prompts that are watched."""
        for key in list(self._watched):
            self.refresh(key)

    async def run(self) -> None:
        """Look up all from time to time, for ever: changes that were not announced are sent as well."""
        while True:
            refreshed_at = self._clock()
            while self._clock() - refreshed_at < (
                _LOOK_UP_SECONDS if self._is_listening() else _UNANNOUNCED_LOOK_UP_SECONDS
            ):
                await asyncio.sleep(0.5)
            self.refresh_all()

    def drain(self) -> None:
        """End all streams: their clients come back elsewhere, with what they have."""
        self._draining = True
        for stream in self._streams:
            stream.end(UnavailableError("the gateway is going away: connect again", retry_seconds=0.1))

    async def watch(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        """Send the present state of prompts, and then every change.

        Args:
            request: A WatchPromptsRequest of 1 to 1,000 selectors, with the revisions that the client has.
            context: The call, which may stay open for ever.

        Yields:
            WatchPromptsResponses: the first one at once, then one for each change, and an empty one after ten seconds
            without any. What has been overtaken by a newer revision before it was sent is not sent.

        Raises:
            InvalidError: There are no selectors or too many, or one of them can't mean a prompt.
            RefusedError: RESOURCE_EXHAUSTED when the project watches too many prompts; UNAUTHENTICATED when the key is
                revoked.
            UnavailableError: The gateway goes away, or prompts could not be looked up for a minute.
        """
        stream = await answering("WatchPrompts.open", context, lambda: self._open(request, context))
        try:
            await answering("WatchPrompts.open", context, lambda: self._look_up_first(stream))
            while True:
                yield await answering("WatchPrompts", context, partial(self._next, stream))
        finally:
            self._close(stream)

    async def _open(self, request: bytes, context: Context) -> WatchStream:
        caller = await caller_of(self._admission, context)
        parsed = parse_request(WatchPromptsRequest, request)
        check_count(parsed.prompts, "prompts", most=MAX_WATCHED)
        if not parsed.prompts:
            raise InvalidError("prompts", "are missing")
        for n, watched in enumerate(parsed.prompts):
            check_selector(watched.prompt, f"prompts[{n}].prompt")
        stream = WatchStream(caller, parsed, self._clock())
        await self._room.acquire(caller.project_id, stream.weight)
        self._streams.add(stream)
        for key in stream.selectors:
            self._watched.setdefault(key, _WatchedPrompt()).streams.add(stream)
        metrics.PROMPT_WATCHERS.set(len(self._streams))
        if self._draining:
            self.drain()
        return stream

    def _close(self, stream: WatchStream) -> None:
        self._room.release(stream.caller.project_id, stream.weight)
        self._streams.discard(stream)
        for key in stream.selectors:
            watched = self._watched[key]
            watched.streams.discard(stream)
            if not watched.streams:
                del self._watched[key]
                if watched.look_up:
                    watched.look_up.cancel()
        metrics.PROMPT_WATCHERS.set(len(self._streams))

    async def _look_up_first(self, stream: WatchStream) -> None:
        async def look_up(key: Key) -> None:
            stream.offer(key, await self._lookup.head(key, stream.caller, at_least=stream.revision(key)))

        await asyncio.gather(*(look_up(key) for key in stream.selectors))

    async def _next(self, stream: WatchStream) -> bytes:
        """Return the next message, as soon as there is one to send: changes, or a sign of life."""
        while True:
            first, stream.is_new = stream.is_new, False
            has_changes = await stream.wait(0 if first else SIGN_OF_LIFE_SECONDS)
            if stream.ended:
                raise stream.ended
            if has_changes:
                if changes := await self._changes(stream):
                    return changes
                stream.is_new = first
                continue
            silence = self._clock() - stream.confirmed_since
            if silence > _GIVE_UP_SECONDS:
                raise UnavailableError("nobody can tell whether what was sent still holds")
            if first or silence < _SILENT_SECONDS:
                return WatchPromptsResponse().SerializeToString()

    async def _changes(self, stream: WatchStream) -> bytes:
        """Return one message of changes, empty for none: the rest is made when the client has room for it."""
        changes, size = list[PromptOutcome](), 0
        while size <= _FULL_BYTES and (taken := stream.take()):
            key, head, selector = taken
            await self._lookup.complete(key, head, head.number_of(selector), stream.caller)
            changes.append(outcome := head.outcome(selector))
            size += outcome.ByteSize()
        if not changes:
            return b""
        metrics.PROMPT_CHANGES.inc()
        return WatchPromptsResponse(changes=changes).SerializeToString()

    async def _look_up(self, key: Key, watched: _WatchedPrompt) -> None:
        try:
            while watched.again and (asker := next((each for each in watched.streams if not each.ended), None)):
                watched.again = False
                try:
                    head = await self._lookup.head(key, asker.caller, or_stale=False)
                except RefusedError as refused:
                    if refused.code == grpc.StatusCode.UNAUTHENTICATED:
                        asker.end(refused)
                        watched.again = True  # on behalf of another stream
                    continue  # all are looked up again soon
                self._offer(key, head, watched)
        finally:
            watched.look_up = None

    def _offer(self, key: Key, head: Head, watched: _WatchedPrompt) -> None:
        now = self._clock()
        for stream in watched.streams:
            stream.offer(key, head)
            stream.confirm(key, now)


class ChangeListener:
    """Listens to the changes that Redis announces, for ever; after each interruption everything may have changed."""

    def __init__(self, redis: PromptCache) -> None:
        self._redis = redis
        self.is_listening = False
        """Whether changes are announced now."""

    async def run(self, lookup: PromptLookup, watches: PromptWatches) -> None:
        """Listen until cancelled: cached heads that have changed give way, and streams are offered the new ones."""
        reason = ""
        while True:
            try:
                async for change in self._redis.changes():
                    if change is None:
                        self.is_listening, reason = True, ""
                        lookup.doubt_all()
                        watches.refresh_all()
                    else:
                        key = (change.project_id, change.name)
                        lookup.raise_floor(key, change.revision)
                        watches.refresh(key)
            except CacheAwayError as error:
                if reason != (reason := str(error)):
                    log.warning("changes of prompts are not announced; they are looked up", error=reason)
            finally:
                self.is_listening = False
            await asyncio.sleep(_RECONNECT_SECONDS)
