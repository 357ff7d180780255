"""Look-ups that are asked for in the same turn of the event loop travel together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Found = TypeVar("Found")


class Together(Generic[Asked, Found]):
    """Many single look-ups, made as few large ones."""

    def __init__(
        self, look_up: Callable[[Sequence[Asked]], Awaitable[Sequence[Found]]], *, most: int, at_once: int
    ) -> None:
        """`look_up` answers for each, in order; it is asked for at most `most`, and so many times `at_once`."""
        self._look_up, self._most = look_up, most
        self._room = asyncio.Semaphore(at_once)
        self._waiting: list[tuple[Asked, asyncio.Future[Found]]] = []
        self._under_way: set[asyncio.Task[None]] = set()

    @property
    def is_idle(self) -> bool:
        """Nobody waits for anything."""
        return not self._waiting and not self._under_way

    async def ask(self, asked: Asked) -> Found:
        """What is found for one."""
        future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        if len(self._waiting) == 1:
            task = asyncio.create_task(self._depart())
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        return await future

    async def _depart(self) -> None:
        waiting, self._waiting = self._waiting, []
        parts = [waiting[begin : begin + self._most] for begin in range(0, len(waiting), self._most)]
        await asyncio.gather(*map(self._travel, parts))

    async def _travel(self, part: Sequence[tuple[Asked, "asyncio.Future[Found]"]]) -> None:
        try:
            async with self._room:
                found = await self._look_up([asked for asked, _ in part])
        except Exception as error:
            for _, future in part:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), its in zip(part, found, strict=True):
            if not future.done():
                future.set_result(its)
