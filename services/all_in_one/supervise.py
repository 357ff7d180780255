"""Processes are kept running: one that ends is reported with the reason, and started again after a growing pause.

While it runs its health is checked; a process that is not healthy is reported, and left to mend itself.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from services.all_in_one.processes import Process, StartFailedError

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds
_CHECK_SECONDS = 3.0
_LONG_RUN = 60.0  # seconds after which an end counts as the first one again

READY, NOT_HEALTHY = "ready", "not healthy"


@dataclass(slots=True)
class Supervised:
    """A process and its state."""

    process: Process
    state: str = READY
    restarts: int = 0
    reason: str = ""
    """Why it ended the last time, with its last output."""


def pause_after(failures: int) -> float:
    """Return the seconds to wait after so many ends in a row: doubling, capped, and spread at random."""
    longest = min(_LONGEST_PAUSE, math.ldexp(_FIRST_PAUSE, min(failures, 10)))
    return random.uniform(longest / 2, longest)  # noqa: S311


async def keep_running(supervised: Supervised, changed: Callable[[Supervised], None]) -> NoReturn:
    """Watch a started process for ever; `changed` is called at every change of its state."""
    process, failures = supervised.process, 0
    began = time.monotonic()
    await _until_it_ends(supervised, changed)
    while True:
        failures = 0 if time.monotonic() - began > _LONG_RUN else failures
        pause = pause_after(failures)
        failures += 1
        supervised.state = f"down, restart in {pause:.1f} s"
        changed(supervised)
        await asyncio.sleep(pause)
        supervised.state = "starting"
        changed(supervised)
        began = time.monotonic()
        supervised.restarts += 1
        try:
            await process.start()
        except StartFailedError as failure:
            supervised.reason = str(failure)
            continue
        supervised.state = READY
        changed(supervised)
        await _until_it_ends(supervised, changed)


async def _until_it_ends(supervised: Supervised, changed: Callable[[Supervised], None]) -> None:
    process = supervised.process
    is_healthy = process.command.healthy or process.command.ready
    end = asyncio.ensure_future(process.ended())
    try:
        while not (await asyncio.wait([end], timeout=_CHECK_SECONDS))[0]:
            state = READY if await is_healthy() else NOT_HEALTHY
            if state != supervised.state and not end.done():
                supervised.state = state
                changed(supervised)
    finally:
        end.cancel()
    supervised.reason = process.last_output()
