"""Services that start as forks of a process that has their libraries in memory: `tests.support.fork_server`."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from services.all_in_one.processes import Child, Command, Process, ProcessManager

_PREFIX = (sys.executable, "-m")


@dataclass(eq=False, slots=True)
class ForkedChild:
    """A child of the fork server, which says when it has ended."""

    pid: int
    end: asyncio.Future[int]

    @property
    def returncode(self) -> int | None:
        """The exit code, or minus the signal; None while it runs."""
        return self.end.result() if self.end.done() else None

    async def wait(self) -> int:
        """Return the exit code, or minus the signal, once it has ended."""
        return await asyncio.shield(self.end)

    def send_signal(self, number: int) -> None:
        """Nothing happens when it has ended."""
        if not self.end.done():
            os.kill(self.pid, number)


@dataclass(slots=True)
class Forks:
    """The connection with a fork server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    _starts: int = 0
    _starting: dict[int, asyncio.Future[ForkedChild]] = field(default_factory=dict)
    _running: dict[int, ForkedChild] = field(default_factory=dict)

    async def start(self, command: Command, environment: Mapping[str, str], log: Path) -> ForkedChild:
        """A child that waits until it is told to go on."""
        number = self._starts = self._starts + 1
        future = self._starting[number] = asyncio.get_running_loop().create_future()
        argv = command.argv[len(_PREFIX) :]
        self._send(start=number, argv=argv, environment=dict(environment), folder=str(log.parent), log=str(log))
        return await asyncio.wait_for(future, 60)

    def go(self, pid: int) -> None:
        """Have a child become its program."""
        self._send(go=pid)

    async def listen(self) -> None:
        """Take in what the server says, until it ends."""
        while line := await self.reader.readline():
            match json.loads(line):
                case {"started": number, "pid": pid}:
                    child = self._running[pid] = ForkedChild(pid, asyncio.get_running_loop().create_future())
                    self._starting.pop(number).set_result(child)
                case {"ended": pid, "code": code}:
                    self._running.pop(pid).end.set_result(code)

    def _send(self, **message: object) -> None:
        self.writer.write(json.dumps(message).encode() + b"\n")


class ForkedProcess(Process):
    """A process that starts as a fork. It can be killed, paused and started again as any other."""

    def __init__(self, command: Command, *, log: Path, manager: "ForkingManager") -> None:
        """Nothing runs before `start`."""
        super().__init__(command, log=log, reaper=manager.reaper)
        self._forks = manager.forks

    async def _launch(self, log: BinaryIO) -> Child:
        self._forked = await self._forks.start(self.command, self.environment(), self.log)
        return self._forked

    def _go(self) -> None:
        self._forks.go(self._forked.pid)


@dataclass(frozen=True, slots=True)
class ForkingManager(ProcessManager):
    """Has Python modules start as forks, and everything else as usual."""

    forks: Forks

    def process(self, command: Command) -> Process:
        """Return a process of the command, not started yet."""
        if not _can_fork(command):
            return ProcessManager.process(self, command)
        return ForkedProcess(command, log=self.data / "logs" / f"{command.name}.log", manager=self)


@asynccontextmanager
async def forking(manager: ProcessManager) -> AsyncIterator[ForkingManager]:
    """The manager with a fork server of its own."""
    ours, theirs = socket.socketpair()
    with theirs:
        server = subprocess.Popen(  # noqa: ASYNC220 - waits for nothing, and asyncio's needs pipes
            [*_PREFIX, "tests.support.fork_server"],
            stdin=theirs.fileno(),
            start_new_session=True,
            # A library that starts threads when it is imported has none in a fork.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
    manager.reaper.watch(server.pid, signal.SIGTERM, 1)
    reader, writer = await asyncio.open_connection(sock=ours)
    forks = Forks(reader, writer)
    listening = asyncio.create_task(forks.listen())
    try:
        yield ForkingManager(manager.data, manager.reaper, forks)
    finally:
        writer.close()
        await listening
        await asyncio.to_thread(server.wait)
        manager.reaper.forget(server.pid)


def _can_fork(command: Command) -> bool:
    """Whether it is a module of ours, run by us under an interpreter that is set as the fork server's."""
    environment = command.environment
    python = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
    return (
        tuple(command.argv[: len(_PREFIX)]) == _PREFIX
        and command.user is None
        and (environment is None or python == {n: v for n, v in environment.items() if n.startswith("PYTHON")})
    )
