"""Where a prompt is found: in this process's memory, else in Redis, else at the query service (docs/decisions/0014).

Revisions never go back: an older head than one that was seen or announced, of a late reader or a Redis that has
forgotten, is not taken from Redis, and the query service is asked instead.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from lodestream_proto.v1.prompt_cache_pb2 import GetPromptHeadsRequest, GetPromptHeadsResponse, PromptHead
from lodestream_proto.v1.prompt_cache_pb2_grpc import PromptCacheServiceStub
from lodestream_proto.v1.prompts_pb2 import GetPromptRequest, GetPromptResponse, PromptSelector, PromptVersion
from lodestream_proto.v1.prompts_pb2_grpc import PromptServiceStub

from services.write.gateway import metrics
from services.write.gateway.admission import Admission
from services.write.gateway.prompts.batch_loader import BatchLoader
from services.write.gateway.prompts.head_cache import Head, HeadCache, Key, head_of
from services.write.gateway.proxy import TRANSIENT_CODES
from shared.runtime.lru_cache import LruCache
from shared.runtime.refusal import Context, RefusedError, UnavailableError
from shared.runtime.single_flight import SingleFlight
from shared.storage.prompt_cache import CacheAwayError, Miss, PromptCache, bare

REDIS_SECONDS = 0.05
"""The longest a call to Redis may take; beyond it Redis counts as away."""
_REDIS_BATCH, _REDIS_CONCURRENCY = 200, 4
_MAX_FILLS = 1_000
_NO_TICKET = Miss("", first=True)
"""Nothing is known, and nothing would be taken."""
_QUERY_SECONDS = 3.0
"""The longest a call to the query service may take."""
_RECONNECT_SECONDS = 0.8
"""The longest such a call waits for a query service that is away."""
_QUERY_BATCH, _QUERY_CONCURRENCY = 20, 4
"""Names in one call to the query service; calls of one caller at the same time."""
_STALE_AFTER_SECONDS = 0.25
"""The longest a reader waits for a look-up when the newest head that is known of is cached."""
_MAX_TRIES = 3
_REMEMBERED_POSITIONS = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """The project on whose behalf something is looked up, and its key: the query service checks that itself."""

    project_id: str
    authorization: str

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of calls to the query service."""
        return (("authorization", self.authorization),)


async def caller_of(admission: Admission, context: Context) -> Caller:
    """Return the caller; raises RefusedError when its key is not valid."""
    project_id = await admission.project_of(context)
    metadata = dict(context.invocation_metadata() or ())
    return Caller(project_id, str(metadata["authorization"]))


async def _call_query_service(method: Any, request: Any, caller: Caller) -> Any:
    """Return the response. A channel that waits before it connects again fails at once: such a call is made anew."""
    try:
        try:
            return await method(request, metadata=caller.metadata, timeout=_QUERY_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return await method(request, metadata=caller.metadata, timeout=_RECONNECT_SECONDS, wait_for_ready=True)
    except grpc.aio.AioRpcError as error:
        if error.code() in TRANSIENT_CODES:
            raise UnavailableError("the prompt is in no cache, and the query service does not answer") from None
        raise RefusedError(error.code(), error.details() or "") from None


class RedisLayer:
    """Heads and versions in Redis while it answers, a miss while it does not.

    It never raises, and never waits long. One per process.
    """

    def __init__(self, redis: PromptCache) -> None:
        self._redis = redis
        self._heads: BatchLoader[Key, PromptHead | Miss] = BatchLoader(
            self._look, batch_size=_REDIS_BATCH, concurrency=_REDIS_CONCURRENCY
        )
        self._fills: set[asyncio.Task[None]] = set()

    async def head(self, key: Key) -> PromptHead | Miss:
        """Return what Redis knows of a prompt."""
        return await self._heads.load(key)

    async def version(self, key: Key, number: int) -> PromptVersion | None:
        """Return a version without labels and revision, if Redis has it."""
        try:
            return await self._redis.version(key, number)
        except CacheAwayError:
            return None

    def fill(self, key: Key, head: PromptHead, ticket: str) -> None:
        """Offer a head that was read elsewhere after a miss with this ticket, without waiting for it."""
        self._begin(self._redis.offer({key: (head, ticket)}))

    def fill_version(self, key: Key, version: PromptVersion) -> None:
        """Keep a version that was read elsewhere, without waiting for it."""
        self._begin(self._redis.keep_version(key, version))

    async def close(self) -> None:
        """Give up what is under way, and close the connections."""
        for task in self._fills:
            task.cancel()
        await asyncio.gather(*self._fills, return_exceptions=True)
        await self._redis.aclose()

    async def _look(self, keys: Sequence[Key]) -> Sequence[PromptHead | Miss]:
        try:
            heads = await self._redis.look(keys)
        except CacheAwayError:
            metrics.REDIS_AWAY.set(1)
            return [_NO_TICKET] * len(keys)
        metrics.REDIS_AWAY.set(0)
        return heads

    def _begin(self, fill: Coroutine[Any, Any, object]) -> None:
        if len(self._fills) >= _MAX_FILLS:
            fill.close()
            return

        async def quietly() -> None:
            try:
                await fill
            except CacheAwayError:
                metrics.REDIS_AWAY.set(1)

        task = asyncio.create_task(quietly())
        self._fills.add(task)
        task.add_done_callback(self._fills.discard)


class QueryLayer:
    """Heads and versions as Postgres has them, by the query service. All methods raise RefusedError."""

    def __init__(self, query: grpc.aio.Channel) -> None:
        self._cache: Any = PromptCacheServiceStub(query)
        self._prompts: Any = PromptServiceStub(query)
        self._loaders: dict[Caller, BatchLoader[str, PromptHead]] = {}

    async def head(self, key: Key, caller: Caller) -> PromptHead:
        """Return the head of a prompt of the caller's project; of revision 0 when there is none."""
        loader = self._loaders.get(caller)
        if loader is None:
            loader = self._loaders[caller] = BatchLoader(
                lambda names: self._heads(names, caller), batch_size=_QUERY_BATCH, concurrency=_QUERY_CONCURRENCY
            )
        try:
            return await loader.load(key[1])
        finally:
            if loader.is_idle:
                self._loaders.pop(caller, None)

    async def version(self, key: Key, number: int, caller: Caller) -> PromptVersion:
        """Return a version without labels and revision."""
        request = GetPromptRequest(prompt=PromptSelector(name=key[1], version=number))
        response: GetPromptResponse = await _call_query_service(self._prompts.GetPrompt, request, caller)
        return bare(response.prompt)

    async def _heads(self, names: Sequence[str], caller: Caller) -> Sequence[PromptHead]:
        request = GetPromptHeadsRequest(names=names)
        response: GetPromptHeadsResponse = await _call_query_service(self._cache.GetPromptHeads, request, caller)
        return response.heads


class PromptLookup:
    """Finds heads and versions, each once for all who want it at the same time. One per process."""

    def __init__(
        self, cache: HeadCache, redis: RedisLayer, query: QueryLayer, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` is in seconds."""
        self._cache, self._redis, self._query, self._clock = cache, redis, query, clock
        self._heads: SingleFlight[Head] = SingleFlight()
        self._versions: SingleFlight[PromptVersion] = SingleFlight()
        self._reached: LruCache[tuple[Key, str], int] = LruCache(_REMEMBERED_POSITIONS)

    def cached(self, key: Key) -> Head | None:
        """Return the head if it can be answered from without any look-up."""
        return self._cache.fresh(key)

    async def head(self, key: Key, caller: Caller, *, at_least: int = 0, or_stale: bool = True) -> Head:
        """Return the head of a prompt.

        Args:
            key: The project and the prompt's name.
            caller: On whose behalf it is looked up.
            at_least: The revision below which a head is taken from the query service only.
            or_stale: Whether one will do that held a minute ago at most, when no other can be had in time.

        Raises:
            RefusedError: It can't be looked up.
        """
        head = self._cache.fresh(key)
        if head is not None and head.revision >= at_least:
            return head
        flight = self._heads.join((key, caller, at_least), lambda: self._look_up(key, caller, at_least))
        stale = self._cache.stale(key) if or_stale else None
        if stale is None or stale.revision < at_least:
            return await asyncio.shield(flight)
        is_newest = stale.revision >= self._cache.floor(key)  # else a later one is worth waiting for
        await asyncio.wait([flight], timeout=_STALE_AFTER_SECONDS if is_newest else None)
        if flight.done() and not isinstance(flight.exception(), UnavailableError):
            return flight.result()
        metrics.PROMPT_READS.labels("stale").inc()
        return stale

    async def complete(self, key: Key, head: Head, number: int, caller: Caller) -> None:
        """Add a version to the head unless it is there, or `number` is 0; it stays until the caller awaits again.

        Raises RefusedError when it can't be looked up.
        """
        if not number or number in head.versions:
            return
        version = await self._versions.run((key, caller, number), lambda: self._look_up_version(key, caller, number))
        head.make_room(version.ByteSize())
        head.versions[number] = version
        self._cache.grew(key)

    def raise_floor(self, key: Key, revision: int) -> None:
        """Note that the prompt is at this revision at least."""
        self._cache.raise_floor(key, revision)

    def doubt_all(self) -> None:
        """Note that changes may have been missed."""
        self._cache.doubt_all()

    def set_reached(self, key: Key, position: str, revision: int) -> None:
        """Note that what was written at this position is in this revision of the prompt."""
        self.raise_floor(key, revision)
        self._reached[key, position] = revision

    def reached(self, key: Key, position: str) -> int | None:
        """Return the revision that holds what was written at the position, if that is known here."""
        return self._reached.peek((key, position))

    async def _look_up(self, key: Key, caller: Caller, at_least: int) -> Head:
        since, ticket = self._clock(), ""
        in_redis = await self._redis.head(key)
        if isinstance(in_redis, Miss):
            ticket = in_redis.ticket
        elif in_redis.revision >= max(at_least, self._cache.floor(key)):
            metrics.PROMPT_READS.labels("redis").inc()
            return self._cache.keep(key, head_of(in_redis), since=since)
        for _ in range(_MAX_TRIES):
            since = self._clock()
            head = await self._query.head(key, caller)
            metrics.PROMPT_READS.labels("query").inc()
            if head.revision >= self._cache.floor(key):  # else a change was announced meanwhile
                self._redis.fill(key, head, ticket)
                return self._cache.keep(key, head_of(head), since=since)
        raise UnavailableError(f"the read model has revision {head.revision} of the prompt, a later one was seen")

    async def _look_up_version(self, key: Key, caller: Caller, number: int) -> PromptVersion:
        version = await self._redis.version(key, number)
        if version is None:
            version = await self._query.version(key, number, caller)
            self._redis.fill_version(key, version)
        return version
