"""Much work in one call, in slices: whoever else waits for the event loop has its turn in between."""

import asyncio
import time

_SLICE_SECONDS = 0.005


class Turns:
    """Of one call."""

    def __init__(self) -> None:
        self._until = time.perf_counter() + _SLICE_SECONDS

    async def give(self) -> None:
        """Let others go on when this call has had its slice."""
        if time.perf_counter() > self._until:
            await asyncio.sleep(0)
            self._until = time.perf_counter() + _SLICE_SECONDS
