"""Where a prompt is found: in this process's memory, else in Redis, else at the query service."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from lodestream_proto.v1.prompt_cache_pb2 import GetPromptHeadsRequest, GetPromptHeadsResponse, PromptHead
from lodestream_proto.v1.prompts_pb2 import GetPromptRequest, GetPromptResponse, PromptSelector, PromptVersion

from services.write.gateway import metrics
from services.write.gateway.admission import Admission
from services.write.gateway.prompts.batch_loader import Together
from services.write.gateway.prompts.head_cache import Head, Key, Memory, read_head
from shared.runtime.refusal import Context, RefusedError, UnavailableError
from shared.runtime.single_flight import Flights
from shared.storage.prompt_cache import CacheAwayError, Miss, PromptCache, bare


@dataclass(frozen=True, slots=True)
class Caller:
    """A project and the metadata that proves it."""

    project_id: str
    authorization: str

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """For calls to the query service."""
        return (("authorization", self.authorization),)


async def caller_of(admission: Admission, context: Context) -> Caller:
    """Who calls.

    Raises RefusedError when the key is none.
    """
    project_id = await admission.project_of(context)
    metadata = dict(context.invocation_metadata() or ())
    return Caller(project_id, str(metadata["authorization"]))


REDIS_SECONDS = 0.05
"""The longest a call may take; beyond it Redis counts as away."""
_REDIS_MOST, _REDIS_AT_ONCE = 200, 4
_FILLING = 1_000
NOTHING = Miss("", first=True)
"""Nothing is known, and nothing is taken."""


class Cache:
    """Never raises, never waits long. One for a process."""

    def __init__(self, redis: PromptCache) -> None:
        self._redis = redis
        self._heads: Together[Key, PromptHead | Miss] = Together(self._look, most=_REDIS_MOST, at_once=_REDIS_AT_ONCE)
        self._filling: set[asyncio.Task[None]] = set()

    async def head(self, key: Key) -> PromptHead | Miss:
        """What Redis knows of a prompt."""
        return await self._heads.ask(key)

    async def version(self, key: Key, number: int) -> PromptVersion | None:
        """A version without labels and revision, if Redis has it."""
        try:
            return await self._redis.version(key, number)
        except CacheAwayError:
            return None

    def fill(self, key: Key, head: PromptHead, ticket: str) -> None:
        """Offer what was read elsewhere after a miss with this ticket; nobody waits for that."""
        self._begin(self._redis.offer({key: (head, ticket)}))

    def fill_version(self, key: Key, version: PromptVersion) -> None:
        """Keep a version that was read elsewhere; nobody waits for that."""
        self._begin(self._redis.keep_version(key, version))

    async def close(self) -> None:
        """Give up what is under way, and the connections."""
        for task in self._filling:
            task.cancel()
        await asyncio.gather(*self._filling, return_exceptions=True)
        await self._redis.aclose()

    async def _look(self, keys: Sequence[Key]) -> Sequence[PromptHead | Miss]:
        try:
            found = await self._redis.look(keys)
        except CacheAwayError:
            metrics.REDIS_AWAY.set(1)
            return [NOTHING] * len(keys)
        metrics.REDIS_AWAY.set(0)
        return found

    def _begin(self, fill: Coroutine[Any, Any, object]) -> None:
        if len(self._filling) >= _FILLING:
            fill.close()
            return

        async def quietly() -> None:
            try:
                await fill
            except CacheAwayError:
                metrics.REDIS_AWAY.set(1)

        task = asyncio.create_task(quietly())
        self._filling.add(task)
        task.add_done_callback(self._filling.discard)


_QUERY_SECONDS = 3.0
"""The longest a look-up may take."""
_RECONNECT_SECONDS = 0.8
"""The longest it waits for a query service that is away."""
_QUERY_MOST, _QUERY_AT_ONCE = 20, 4
"""Names in one call to the query service, calls of one caller at the same time."""
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


class Origin:
    """Heads and versions as Postgres has them. All raise RefusedError."""

    def __init__(self, query: grpc.aio.Channel) -> None:
        self._get_heads: Any = query.unary_unary(
            "/lodestream_proto.v1.PromptCacheService/GetPromptHeads",
            request_serializer=GetPromptHeadsRequest.SerializeToString,
            response_deserializer=GetPromptHeadsResponse.FromString,
        )
        self._get_prompt: Any = query.unary_unary(
            "/lodestream_proto.v1.PromptService/GetPrompt",
            request_serializer=GetPromptRequest.SerializeToString,
            response_deserializer=GetPromptResponse.FromString,
        )
        self._together: dict[Caller, Together[str, PromptHead]] = {}

    async def head(self, key: Key, caller: Caller) -> PromptHead:
        """The head of a prompt of the caller's project; of revision 0 when there is none."""
        together = self._together.get(caller)
        if together is None:
            together = self._together[caller] = Together(
                lambda names: self._heads(names, caller), most=_QUERY_MOST, at_once=_QUERY_AT_ONCE
            )
        try:
            return await together.ask(key[1])
        finally:
            if together.is_idle:
                self._together.pop(caller, None)

    async def version(self, key: Key, number: int, caller: Caller) -> PromptVersion:
        """A version, without labels and revision."""
        request = GetPromptRequest(prompt=PromptSelector(name=key[1], version=number))
        answer: GetPromptResponse = await _asking(self._get_prompt, request, caller)
        return bare(answer.prompt)

    async def _heads(self, names: Sequence[str], caller: Caller) -> Sequence[PromptHead]:
        answer: GetPromptHeadsResponse = await _asking(self._get_heads, GetPromptHeadsRequest(names=names), caller)
        return answer.heads


async def _asking(call: Any, request: Any, caller: Caller) -> Any:
    """The answer. A channel that waits before it connects again says UNAVAILABLE at once: such a call is made anew."""
    try:
        try:
            return await call(request, metadata=caller.metadata, timeout=_QUERY_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return await call(request, metadata=caller.metadata, timeout=_RECONNECT_SECONDS, wait_for_ready=True)
    except grpc.aio.AioRpcError as error:
        if error.code() in _PASSING:
            raise UnavailableError("the prompt is in no cache, and the query service does not answer") from None
        raise RefusedError(error.code(), error.details() or "") from None


_PATIENCE = 0.25
"""Seconds that a reader waits for a look-up when the newest that is known of is remembered."""
_TRIES = 3
_POSITIONS = 10_000


class Store:
    """Finds heads and versions. One for a process."""

    def __init__(
        self, memory: Memory, cache: Cache, origin: Origin, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._memory, self._cache, self._origin, self._clock = memory, cache, origin, clock
        self._heads: Flights[Head] = Flights()
        self._versions: Flights[PromptVersion] = Flights()
        self._reached: OrderedDict[tuple[Key, str], int] = OrderedDict()

    def remembered(self, key: Key) -> Head | None:
        """The head, if it can be answered from without any look-up."""
        return self._memory.fresh(key)

    async def head(self, key: Key, caller: Caller, *, at_least: int = 0, or_stale: bool = True) -> Head:
        """The head; with `or_stale` one that was true a minute ago at most, when nobody can tell in time.

        Of a lower revision than `at_least` only if the query service says so.
        Raises RefusedError when nobody can tell.
        """
        head = self._memory.fresh(key)
        if head is not None and head.revision >= at_least:
            return head
        flight = self._heads.board((key, caller, at_least), lambda: self._look_up(key, caller, at_least))
        stale = self._memory.stale(key) if or_stale else None
        if stale is None or stale.revision < at_least:
            return await asyncio.shield(flight)
        is_newest = stale.revision >= self._memory.floor(key)  # else a later one is worth waiting for
        await asyncio.wait([flight], timeout=_PATIENCE if is_newest else None)
        if flight.done() and not isinstance(flight.exception(), UnavailableError):
            return flight.result()
        metrics.PROMPT_READS.labels("stale").inc()
        return stale

    async def complete(self, key: Key, head: Head, number: int, caller: Caller) -> None:
        """See to it that the head holds this version until something else is awaited; 0: nothing to do.

        Raises RefusedError when nobody can tell what it holds.
        """
        if not number or number in head.versions:
            return
        flight = self._versions.board((key, caller, number), lambda: self._look_up_version(key, caller, number))
        version = await asyncio.shield(flight)
        head.make_room(version.ByteSize())
        head.versions[number] = version
        self._memory.grew(key)

    def tell(self, key: Key, revision: int) -> None:
        """The prompt is at least at this revision."""
        self._memory.raise_floor(key, revision)

    def doubt_all(self) -> None:
        """Changes may not have been told."""
        self._memory.doubt_all()

    def reach(self, key: Key, position: str, revision: int) -> None:
        """What was written at this position is in this revision of the prompt."""
        self.tell(key, revision)
        self._reached[key, position] = revision
        if len(self._reached) > _POSITIONS:
            self._reached.popitem(last=False)

    def reached(self, key: Key, position: str) -> int | None:
        """The revision that holds what was written at the position, if that is known here."""
        return self._reached.get((key, position))

    async def _look_up(self, key: Key, caller: Caller, at_least: int) -> Head:
        since, ticket = self._clock(), ""
        found = await self._cache.head(key)
        if isinstance(found, Miss):
            ticket = found.ticket
        elif found.revision >= max(at_least, self._memory.floor(key)):
            metrics.PROMPT_READS.labels("redis").inc()
            return self._memory.keep(key, read_head(found), since=since)
        for _ in range(_TRIES):
            since = self._clock()
            head = await self._origin.head(key, caller)
            metrics.PROMPT_READS.labels("query").inc()
            if head.revision >= self._memory.floor(key):  # else a change was told while we asked
                self._cache.fill(key, head, ticket)
                return self._memory.keep(key, read_head(head), since=since)
        raise UnavailableError(f"the read model has revision {head.revision} of the prompt, a later one was seen")

    async def _look_up_version(self, key: Key, caller: Caller, number: int) -> PromptVersion:
        version = await self._cache.version(key, number)
        if version is None:
            version = await self._origin.version(key, number, caller)
            self._cache.fill_version(key, version)
        return version
