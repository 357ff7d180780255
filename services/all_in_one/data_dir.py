"""The folder a stack lives in: held by one all_in_one at a time, and freed of what a killed one left behind."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from services.all_in_one.folders import close_to_others
from services.all_in_one.keeper import kill_group, wait_until_gone

STATUS = "status.json"
_PATIENCE = 30.0  # seconds for the keeper of a killed run to stop what that left


class UnusableError(Exception):
    """The folder can't be made or written to. The message names it, and the reason."""


class InUseError(Exception):
    """Another all_in_one runs on this folder. The message names its process."""


@contextmanager
def held(folder: Path) -> Iterator[int]:
    """The folder is ours while the file descriptor given, or a copy of it, is open.

    Raises UnusableError, and InUseError when another all_in_one lives there. Waits for the keeper of a killed one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        close_to_others(folder)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UnusableError(
            f"{folder} can't hold the data: {error.strerror}; --data-dir names another folder"
        ) from error
    try:
        end = time.monotonic() + _PATIENCE
        while not _taken(lock):
            holder = os.pread(lock, 20, 0).decode()
            if (holder and psutil.pid_exists(int(holder))) or time.monotonic() > end:
                raise InUseError(f"{folder} is in use by all_in_one, process {holder}; --data-dir names another folder")
            time.sleep(0.05)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield lock
    finally:
        os.close(lock)


def stop_leftovers(folder: Path) -> list[str]:
    """Kill what a killed run's status file names and still lives; the names of those. The file goes too.

    Only where the keeper was killed as well there are any. A pid that was taken again is told by its time of creation.
    """
    try:
        processes = json.loads((folder / STATUS).read_text(encoding="utf-8"))["processes"]
    except (OSError, ValueError, KeyError):
        return []
    killed = []
    for entry in processes:
        try:
            process = psutil.Process(entry["pid"])
            ours = process.create_time() == entry["created_at"]
        except (psutil.NoSuchProcess, TypeError, ValueError):
            continue
        if ours:
            kill_group(process.pid)
            wait_until_gone(process, 5)
            killed.append(str(entry["name"]))
    (folder / STATUS).unlink()
    return killed


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
