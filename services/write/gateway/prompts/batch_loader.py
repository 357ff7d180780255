"""Many single look-ups, made as few large ones."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BatchLoader(Generic[K, V]):
    """Loads the keys that are wanted in the same turn of the event loop together."""

    def __init__(
        self, load_many: Callable[[Sequence[K]], Awaitable[Sequence[V]]], *, batch_size: int, concurrency: int
    ) -> None:
        """`load_many` returns a value for each key, in order; it is called for `batch_size` keys at most.

        So many calls of it as `concurrency` says are made at the same time.
        """
        self._load_many, self._batch_size = load_many, batch_size
        self._calls = asyncio.Semaphore(concurrency)
        self._waiting: list[tuple[K, asyncio.Future[V]]] = []
        self._under_way: set[asyncio.Task[None]] = set()

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for anything."""
        return not self._waiting and not self._under_way

    async def load(self, key: K) -> V:
        """Return the value of a key; raises what the look-up raises of which it is a part."""
        future: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, future))
        if len(self._waiting) == 1:
            task = asyncio.create_task(self._load_waiting())
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        return await future

    async def _load_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        batches = [waiting[begin : begin + self._batch_size] for begin in range(0, len(waiting), self._batch_size)]
        await asyncio.gather(*map(self._load_batch, batches))

    async def _load_batch(self, batch: Sequence[tuple[K, "asyncio.Future[V]"]]) -> None:
        try:
            async with self._calls:
                values = await self._load_many([key for key, _ in batch])
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), value in zip(batch, values, strict=True):
            if not future.done():
                future.set_result(value)
