"""Child processes: reaped whatever happens, probed until ready, stopped gently, their ends explained."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from services.all_in_one.probes import Probe
from services.all_in_one.reaper import Reaper, kill_group

# A child waits for a line until the reaper knows it; when we die before, the read ends and it never becomes a server.
_WAIT_FOR_GO = ("/bin/sh", "-c", 'read -r _ && exec "$@" </dev/null', "sh")
# A process with threads of gRPC had better not fork: gRPC's handlers run in the child, and may crash it. Python forks
# (and does not vfork) to start a child as another user, so the child becomes that user by itself.
_BECOME = "import os, sys; gid, uid = map(int, sys.argv[1:3]); os.setgroups([]); os.setgid(gid); os.setuid(uid); "
_BECOME += "os.execv(sys.argv[3], sys.argv[3:])"
_MAX_LOG_BYTES = 10 * 1024 * 1024  # bytes; a longer one is set aside as .1 at the next start
_REASON_LINES = 6
_PLAIN = {
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM", "NO_COLOR", "VIRTUAL_ENV",
    "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
}  # fmt: skip
_PLAIN_VARIABLE_PREFIXES = ("LC_", "PYTHON", "GRPC_", "XDG_")


async def _at_once() -> bool:
    return True


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program to run: where it is reached, when it is ready, and how it is stopped."""

    name: str
    argv: Sequence[str]
    address: str = ""
    clear: Callable[[], None] = _nothing
    """Removes what a killed process may have left in the way; called before each start."""
    ready: Probe = _at_once
    """Returns whether it has started."""
    healthy: Probe | None = None
    """Returns whether it is healthy, its dependencies included; None for what `ready` returns."""
    environment: Mapping[str, str] | None = None
    """The whole environment; None for what any program needs of ours."""
    user: tuple[int, int] | None = None
    """The ids of the user and group to run as; None for ours."""
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 15.0
    """Seconds between the stop signal and SIGKILL."""

    @property
    def public_address(self) -> str:
        """The address without a password."""
        return re.sub(r":[^:@/]*@", "@", self.address)


def plain_environment() -> dict[str, str]:
    """Return what any program needs of our environment: not the keys and passwords of whoever started us."""
    return {
        name: value for name, value in os.environ.items() if name in _PLAIN or name.startswith(_PLAIN_VARIABLE_PREFIXES)
    }


class Child(Protocol):
    """What is known of a running command."""

    @property
    def pid(self) -> int:
        """The process id; it leads the group of this number."""

    @property
    def returncode(self) -> int | None:
        """The exit code, or minus the signal; None while it runs."""

    async def wait(self) -> int:
        """Return `returncode` once it has ended."""

    def send_signal(self, signal: int, /) -> None:
        """Send a signal to the command alone."""


class StartFailedError(Exception):
    """A process ended, or stayed unready, while it was being started. The message names it, and its last output."""


class Process:
    """A command that runs at most once at a time. Its output is appended to a log file."""

    def __init__(self, command: Command, *, log: Path, reaper: Reaper) -> None:
        """Nothing runs before `start`."""
        self.command = command
        self.log = log
        self._reaper = reaper
        self._child: Child | None = None
        self._stdin: asyncio.StreamWriter | None = None
        self._log_start = 0
        self._reaped = True

    @property
    def pid(self) -> int | None:
        """The process id; None when it is not running."""
        return self._child.pid if self._child and self._child.returncode is None else None

    async def start(self, deadline: float = 60.0) -> None:
        """Start and return when it is ready.

        Raises StartFailedError when it ends, or is not ready within `deadline` seconds; then nothing is left running.
        """
        child = await self._spawn()
        end = asyncio.ensure_future(child.wait())
        problem = "did not start"
        try:
            async with asyncio.timeout(deadline):
                while not end.done():
                    if await self.command.ready():
                        return
                    await asyncio.wait([end], timeout=0.05)
        except TimeoutError:
            problem = f"was not ready within {deadline:.0f} s"
        finally:
            end.cancel()
        message = f"{self.command.name} {problem}: {self.last_output()}"
        await self.stop()
        raise StartFailedError(message)

    async def _spawn(self) -> Child:
        assert self.pid is None, f"{self.command.name} is running"
        await asyncio.to_thread(self.command.clear)
        with _open_log(self.log) as log:
            self._log_start = log.seek(0, os.SEEK_END)
            child = self._child = await self._launch(log)
        self._reaped = False
        self._reaper.watch(child.pid, self.command.stop_signal, self.command.grace)
        self._go()
        return child

    async def _launch(self, log: BinaryIO) -> Child:
        """Start a child that leads a session of its own, and becomes the command when it may go."""
        child = await asyncio.create_subprocess_exec(
            *_WAIT_FOR_GO,
            *_become(self.command.user),
            *self.command.argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=self.environment(),
            cwd="/" if self.command.user else self.log.parent,  # another user may not be let into our folder
            start_new_session=True,  # Ctrl-C on our terminal is ours alone: we stop the children in order
        )
        self._stdin = child.stdin
        return child

    def _go(self) -> None:
        assert self._stdin is not None
        self._stdin.write(b"\n")
        self._stdin.close()

    def environment(self) -> dict[str, str]:
        """Return the whole environment that the command runs in."""
        return dict(plain_environment() if self.command.environment is None else self.command.environment)

    async def stop(self) -> None:
        """Ask it to end, wait its grace, then kill it and its children.

        Returns when it is gone. To stop it again does no harm.
        """
        if self.pid is not None:
            self._signal(self.command.stop_signal)
            self.resume()  # a paused process would not hear it
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.command.grace):
                    await self.ended()
            self.kill()
        if self._child is not None:
            await self.ended()

    async def ended(self) -> int:
        """Wait for its end, by itself or not, and return the exit code, or minus the signal."""
        assert self._child is not None, f"{self.command.name} was never started"
        child = self._child
        code = await child.wait()
        if child is self._child and not self._reaped:
            self._reaped = True
            kill_group(child.pid)  # children it may have left
            self._reaper.forget(child.pid)
        return code

    async def restart(self, deadline: float = 60.0) -> None:
        """Stop and start again, on the same address and data."""
        await self.stop()
        await self.start(deadline)

    def kill(self) -> None:
        """Send SIGKILL to it and its children."""
        if self.pid is not None:
            kill_group(self.pid)

    def pause(self) -> None:
        """Send SIGSTOP: it stays alive, connected, and silent."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(number)

    def output(self) -> str:
        """Return what it has written since it was last started."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def last_output(self) -> str:
        """Return why it ended (if it did) and the last lines of its log."""
        lines = [line for line in self.output().splitlines() if line.strip()][-_REASON_LINES:]
        return "\n".join([self._exit(), *(f"    {line}" for line in lines)])

    def _exit(self) -> str:
        code = self._child.returncode if self._child else None
        if code is None:
            return "still running"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


@dataclass(frozen=True, slots=True)
class ProcessManager:
    """Makes processes with their data and logs in one folder, none of which outlives us."""

    data: Path
    reaper: Reaper

    def process(self, command: Command) -> Process:
        """Return a process of the command, not started yet."""
        return Process(command, log=self.data / "logs" / f"{command.name}.log", reaper=self.reaper)

    async def run(self, command: Command) -> None:
        """Run a command to its end.

        Raises StartFailedError when it ends with anything but 0.
        """
        process = self.process(command)
        try:
            await process.start()
            if await process.ended():
                raise StartFailedError(f"{command.name} failed: {process.last_output()}")
        finally:
            await process.stop()


def _become(user: tuple[int, int] | None) -> Sequence[str]:
    """Return what stands before a command for it to run as this user and group."""
    return () if user is None else (sys.executable, "-I", "-S", "-c", _BECOME, str(user[1]), str(user[0]))


def _open_log(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _MAX_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")
