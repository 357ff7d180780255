"""Where a prompt is found: in this process's memory, else in Redis, else at the query service.

What was seen or told never goes back: an older head, of a late reader or a Redis that has forgotten, is not taken from
Redis, and the query service is asked instead.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from lodestream_proto.v1.prompts_pb2 import PromptVersion

from services.write.gateway import metrics
from services.write.gateway.prompts.cache import Cache
from services.write.gateway.prompts.caller import Caller
from services.write.gateway.prompts.flights import Flights
from services.write.gateway.prompts.head import Head, read_head
from services.write.gateway.prompts.memory import Key, Memory
from services.write.gateway.prompts.origin import Origin
from shared.runtime.refusal import UnavailableError
from shared.storage.prompt_cache import Miss

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
