"""One call at a time for one key: whoever wants its result meanwhile waits for the same call."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Calls under way by their keys. They end by themselves, whoever gives up waiting for them."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[T]] = {}

    async def run(self, key: Hashable, begin: Callable[[], Coroutine[None, None, T]]) -> T:
        """Return the result of the key's call that is under way, else of a new one; raises what the call raises."""
        return await asyncio.shield(self.join(key, begin))

    def join(self, key: Hashable, begin: Callable[[], Coroutine[None, None, T]]) -> asyncio.Task[T]:
        """Return the key's call that is under way, else begin one. Shield it: others wait for it as well."""
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(begin())
            task.add_done_callback(lambda done: self._end(key, done))
        return task

    def _end(self, key: Hashable, task: asyncio.Task[T]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # those who waited may have given up; the failure is then nobody's
