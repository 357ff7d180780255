"""The layer in Redis: heads and versions while it answers, a miss while it does not."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from lodestream_proto.v1.prompt_cache_pb2 import PromptHead
from lodestream_proto.v1.prompts_pb2 import PromptVersion

from services.write.gateway import metrics
from services.write.gateway.prompts.memory import Key
from services.write.gateway.prompts.together import Together
from shared.storage.prompt_cache import CacheAwayError, Miss, PromptCache

SECONDS = 0.05
"""The longest a call may take; beyond it Redis counts as away."""
_MOST, _AT_ONCE = 200, 4
_FILLING = 1_000
NOTHING = Miss("", first=True)
"""Nothing is known, and nothing is taken."""


class Cache:
    """Never raises, never waits long. One for a process."""

    def __init__(self, redis: PromptCache) -> None:
        self._redis = redis
        self._heads: Together[Key, PromptHead | Miss] = Together(self._look, most=_MOST, at_once=_AT_ONCE)
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
