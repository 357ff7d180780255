"""A program that is run once against the stack, on our terminal."""

import asyncio
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from services.all_in_one.keeper import Keeper, kill_group

_GRACE = 5.0  # seconds


async def run_script(script: Path, environment: Mapping[str, str], keeper: Keeper) -> int:
    """Run a Python program to its end and return its exit code (minus the signal). It ends with us."""
    child = await asyncio.create_subprocess_exec(sys.executable, script, env=dict(environment), start_new_session=True)
    keeper.watch(child.pid, signal.SIGTERM, _GRACE)
    try:
        return await child.wait()
    finally:
        if child.returncode is None:
            child.terminate()
            await asyncio.wait([asyncio.ensure_future(child.wait())], timeout=_GRACE)
        kill_group(child.pid)
        await child.wait()
        keeper.forget(child.pid)
