"""Processes for answers that take seconds to compute, apart from the one that serves everybody's reads.

Beside the event loop, such work would take the interpreter's lock from every other read. In a process of its own, of a
lower priority, it takes what processor time is left.
"""

import asyncio
import multiprocessing
import os
import signal
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import grpc

from shared.runtime.refusal import RefusedError

_NICENESS = 5
"""A quarter to a third of a processor that others want too: computing gives way to serving, and ends all the same."""
_SPAWN = multiprocessing.get_context("spawn")
Work = Callable[..., Awaitable[bytes]]
"""A coroutine function that can be pickled: one of a module, with arguments that can be pickled."""


class WorkProcesses:
    """Processes that start when they are needed, and stay for the next piece of work."""

    def __init__(self, most: int) -> None:
        """Allow so many at one time; the caller sees to it that no more work is under way."""
        self._threads = ThreadPoolExecutor(most, "work-process")
        self._idle: list[_WorkProcess] = []
        self._working: set[_WorkProcess] = set()

    async def run(self, work: Work, *arguments: Any) -> bytes:
        """Return what the work returns. When the caller is cancelled, the process is ended.

        Raises what the work raises, and RefusedError (RESOURCE_EXHAUSTED) when its process was ended, as it is by a
        system that lacks memory.
        """
        process = self._take()
        self._working.add(process)
        try:
            loop = asyncio.get_running_loop()
            succeeded, outcome = await loop.run_in_executor(self._threads, process.run, work, arguments)
            self._idle.append(process)
        except EOFError:
            reason = "the process that computes the answer was ended; ask for less at once"
            raise RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, reason) from None
        except asyncio.CancelledError:
            process.kill()
            raise
        finally:
            self._working.discard(process)
        if succeeded:
            return bytes(outcome)
        raise outcome

    def _take(self) -> "_WorkProcess":
        while self._idle:
            process = self._idle.pop()
            if process.is_alive():
                return process
        return _WorkProcess()

    def close(self) -> None:
        """End all processes, those that work included."""
        for process in (*self._idle, *self._working):
            process.kill()
        self._threads.shutdown(wait=False)


class _WorkProcess:
    """One process and the pipe to it. It ends when this end of the pipe is closed, or this process ends."""

    def __init__(self) -> None:
        self._connection, self._other_end = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_work, args=(self._other_end,), daemon=True)

    def run(self, work: Work, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        """Return whether the work succeeded, and the bytes or the error that it came to. Blocks until then.

        Raises EOFError when the process was ended.
        """
        try:
            if self._process.pid is None:
                self._process.start()
                self._other_end.close()
            self._connection.send((work, arguments))
            outcome: tuple[bool, Any] = self._connection.recv()
        except OSError as error:
            raise EOFError from error
        return outcome

    def is_alive(self) -> bool:
        """Return whether the process, which has been started, still runs."""
        return self._process.is_alive()

    def kill(self) -> None:
        """End the process, if it has been started."""
        if self._process.pid is not None:
            self._process.kill()


def _work(connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the service, which ends its processes
    os.nice(_NICENESS)
    while True:
        try:
            work, arguments = connection.recv()
        except (EOFError, OSError):
            return
        outcome: tuple[bool, Any]
        try:
            outcome = True, asyncio.run(work(*arguments))
        except Exception as error:
            if not isinstance(error, RefusedError):
                error.add_note(traceback.format_exc())
            outcome = False, error
        with suppress(OSError):
            connection.send(outcome)
