"""One look-up at a time for one thing: who asks for it meanwhile waits for the same answer."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Generic, TypeVar

Found = TypeVar("Found")


class Flights(Generic[Found]):
    """Look-ups under way. They end by themselves, whoever hangs up."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[Found]] = {}

    def board(self, key: Hashable, begin: Callable[[], Coroutine[None, None, Found]]) -> asyncio.Task[Found]:
        """The look-up of this key that is under way, else a new one. Shield it: others wait for it as well."""
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(begin())
            task.add_done_callback(lambda done: self._landed(key, done))
        return task

    def _landed(self, key: Hashable, task: asyncio.Task[Found]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # whoever waited may have hung up; the failure is then nobody's
