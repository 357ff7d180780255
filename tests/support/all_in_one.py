"""`python -m services.all_in_one` as its users run it, and what can be seen of it from outside."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.support.polling import until


@dataclass(frozen=True, slots=True)
class AllInOne:
    """One run: its process, its data folder, and the file of all it said."""

    child: asyncio.subprocess.Process
    data: Path
    log: Path

    def status(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.data / "status.json").read_text()))
        except FileNotFoundError:
            return {}

    def processes(self) -> dict[str, dict[str, Any]]:
        return {entry["name"]: entry for entry in self.status().get("processes", [])}

    def family(self) -> list[psutil.Process]:
        """Itself, its reaper, the servers and their children."""
        itself = psutil.Process(self.child.pid)
        return [itself, *itself.children(recursive=True)]

    async def ready(self, *names: str) -> None:
        def all_ready() -> bool:
            assert self.child.returncode is None, self.said()
            ours = self.status().get("pid") == self.child.pid
            return ours and {name for name, entry in self.processes().items() if entry["state"] == "ready"} == set(
                names
            )

        await until(all_ready, deadline=90, what=f"{names} ready")

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code, once the whole family is gone."""
        family = self.family()
        self.child.send_signal(number)
        code = await asyncio.wait_for(self.child.wait(), 60)
        await until(lambda: not any(is_alive(process) for process in family), deadline=10, what="nobody is left")
        return code

    def said(self) -> str:
        return self.log.read_text()


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


StartAllInOne = Callable[..., Awaitable[AllInOne]]


@asynccontextmanager
async def starting_all_in_one(folder: Path) -> AsyncIterator[StartAllInOne]:
    """A function that starts it on a data folder in `folder`: arguments, and environment variables as keywords."""
    started: list[AllInOne] = []

    async def start(*arguments: str, **environment: str) -> AllInOne:
        data, log = folder / "data", folder / f"said-{len(started)}"
        with log.open("wb") as output:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.all_in_one", "--data-dir", str(data), *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment},
                cwd=folder,
            )
        one = AllInOne(child, data, log)
        started.append(one)
        return one

    try:
        yield start
    finally:
        for one in started:
            if one.child.returncode is None:
                await one.end(signal.SIGKILL)
