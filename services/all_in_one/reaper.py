"""The reaper: a small process that outlives its starter and stops whatever the starter left running.

It learns of each child over a pipe. When the pipe closes, because the starter ended or was killed, it stops what is
still registered, the youngest first, and removes the temporary folder.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

_MAX_GRACE = 3.0  # seconds; nobody waits for us any more


class Reaper:
    """The starter's end of the pipe. To close it, or to die, ends every process that is still registered."""

    def __init__(self, *, hold: int | None = None, remove: Path | None = None) -> None:
        """`hold` is a file descriptor to keep open until all are gone; `remove` a folder to remove then."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.all_in_one.reaper", *([str(remove)] if remove else [])],
            stdin=subprocess.PIPE,
            pass_fds=() if hold is None else (hold,),
            start_new_session=True,  # a signal to our group is not meant for it
        )

    def watch(self, pid: int, stop_signal: signal.Signals, grace: float) -> None:
        """Register a process, which then does not outlive us. `grace`: seconds between the signal and SIGKILL."""
        self._send(f"watch {pid} {stop_signal:d} {grace}")

    def forget(self, pid: int) -> None:
        """Remove a process that has ended from the register."""
        with contextlib.suppress(OSError):
            self._send(f"forget {pid}")

    def close(self) -> None:
        """Stop what is still registered; returns when it is gone."""
        with contextlib.suppress(OSError):
            self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()


@dataclass(frozen=True, slots=True)
class _Watched:
    process: psutil.Process  # knows the time of creation: a pid that was taken again is another process
    stop_signal: int
    grace: float

    def stop(self) -> None:
        with contextlib.suppress(psutil.Error):
            self.process.send_signal(self.stop_signal)
            self.process.resume()  # a stopped process would not hear it
        if not wait_until_gone(self.process, min(self.grace, _MAX_GRACE)):
            kill_group(self.process.pid)
            wait_until_gone(self.process, 1)


def kill_group(leader: int) -> None:
    """Send SIGKILL to a process that leads a group, and to its children."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def wait_until_gone(process: psutil.Process, seconds: float) -> bool:
    """Return True as soon as a process has ended, reaped or not; False when it still runs after `seconds`."""
    end = time.monotonic() + seconds
    while _runs(process):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _read(lines: Iterable[str]) -> list[_Watched]:
    """Return the processes that are registered when the lines end."""
    watched: dict[int, _Watched] = {}
    for line in lines:
        verb, pid, *details = line.split()
        watched.pop(int(pid), None)
        if verb == "watch":
            with contextlib.suppress(psutil.NoSuchProcess):
                watched[int(pid)] = _Watched(psutil.Process(int(pid)), int(details[0]), float(details[1]))
    return list(watched.values())


def main() -> None:
    """Watch until standard input ends, then stop what is left."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    for watched in reversed(_read(sys.stdin)):
        watched.stop()
    for folder in sys.argv[1:]:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
