"""Whose work is done next: one request at a time, in slices, and the projects one after another.

The gateway has one thread. Between two slices the event loop turns, so that whoever only reads is answered; and a
project with a thousand requests waiting has one slice, as has one with a single request.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

_SLICE_SECONDS = 0.002
Answer = TypeVar("Answer")


class Turns:
    """The turns of one process."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def of(self, project_id: str) -> "Turn":
        """A turn of a project, as a context manager: the body begins when it is its turn."""
        return Turn(self, project_id)

    async def take(self, project_id: str) -> None:
        """Wait for a turn; whoever has taken one passes it on."""
        if not self._taken:
            self._taken = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(project_id, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.pass_on()
            raise

    def pass_on(self) -> None:
        """To the project that has waited longest for its next turn."""
        while self._waiting:
            project_id, waiting = self._waiting.popitem(last=False)
            turn = waiting.popleft()
            if waiting:
                self._waiting[project_id] = waiting
            if not turn.done():
                turn.set_result(None)
                return
        self._taken = False


class Turn:
    """The turn of one request."""

    __slots__ = ("_held", "_project_id", "_turns", "_until")

    def __init__(self, turns: Turns, project_id: str) -> None:
        self._turns, self._project_id = turns, project_id
        self._held, self._until = False, 0.0

    async def __aenter__(self) -> Self:
        await self._take()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._held:
            self._pass_on()

    async def give(self) -> None:
        """Let others go on when this request has had its slice."""
        if time.perf_counter() > self._until:
            self._pass_on()
            await asyncio.sleep(0)
            await self._take()

    async def in_thread(self, work: Callable[[bytes], Answer], raw: bytes) -> Answer:
        """What `work` makes of the bytes in another thread, while others go on; for work that frees Python's lock."""
        self._pass_on()
        try:
            answer = await asyncio.to_thread(work, raw)
        except Exception:
            await self._take()
            raise
        await self._take()
        return answer

    async def _take(self) -> None:
        await self._turns.take(self._project_id)
        self._held, self._until = True, time.perf_counter() + _SLICE_SECONDS

    def _pass_on(self) -> None:
        self._held = False
        self._turns.pass_on()
