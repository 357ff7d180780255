"""Starts that the nemesis does not wait for: what was killed may be struck again before it is ready."""

import asyncio

from services.all_in_one.processes import Process, StartFailedError

_DEADLINE = 120.0
"""Seconds; a server that is down while a service starts comes back within it."""
_TRIES = 5
"""Of a start that ends with an exit code: as often as a supervisor would try again."""


class Starts:
    """Of processes by name. A start that fails because its process was struck meanwhile is made again by the strike."""

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Task[None]] = {}

    def check(self, name: str) -> None:
        """Raise StartFailedError if the last start has failed by itself."""
        if (task := self._under_way.get(name)) and task.done():
            task.result()

    async def begun(self, name: str, process: Process) -> None:
        """Wait until what is being started is a process, be it ready or not: only then can it be struck again."""
        while (task := self._under_way.get(name)) and not task.done() and process.pid is None:
            await asyncio.sleep(0.01)

    async def over(self, name: str) -> None:
        """Wait until it has been started, or has failed to."""
        if task := self._under_way.get(name):
            await asyncio.gather(task, return_exceptions=True)

    async def again(self, name: str, process: Process) -> None:
        """Begin to start what has been made to end."""
        await process.ended()
        if before := self._under_way.pop(name, None):
            await asyncio.gather(before, return_exceptions=True)
        if process.pid is None:  # else the start before has brought it back
            self._under_way[name] = asyncio.create_task(_start(process))

    async def ready(self) -> None:
        """Wait until everything is. Raises StartFailedError when something does not come up."""
        await asyncio.gather(*self._under_way.values())
        self._under_way.clear()


async def _start(process: Process) -> None:
    """Start it. One that gives up because a server it needs is struck in this moment is started again.

    Raises StartFailedError.
    """
    for left in reversed(range(_TRIES)):
        try:
            await process.start(_DEADLINE)
        except StartFailedError:
            if not left or not process.last_output().startswith("exit code") or _ended_well(process):
                raise
            await asyncio.sleep(1)
        else:
            return


def _ended_well(process: Process) -> bool:
    """Whether it was asked to end, rather than gave up."""
    return process.last_output().startswith("exit code 0")
