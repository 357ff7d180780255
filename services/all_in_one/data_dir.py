"""The folder of a stack: used by one all_in_one at a time, freed of what a killed one left, closed to other users."""

import fcntl
import json
import os
import pwd
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psutil

from services.all_in_one.reaper import kill_group, wait_until_gone

STATUS = "status.json"
_REAPER_SECONDS = 30.0  # seconds for the reaper of a killed run to stop what that left


class UnusableError(Exception):
    """The folder can't be made or written to. The message names it, and the reason."""


class InUseError(Exception):
    """Another all_in_one runs on this folder. The message names its process."""


@contextmanager
def lock_folder(folder: Path) -> Iterator[int]:
    """Lock a folder for as long as the file descriptor that is yielded, or a copy of it, is open.

    Raises UnusableError, and InUseError when another all_in_one uses it. Waits for the reaper of a killed one.
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
        end = time.monotonic() + _REAPER_SECONDS
        while not _try_lock(lock):
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
    """Kill the processes of a killed run that still live, and return their names; its status file names them.

    There are any only when the reaper was killed as well. The time of creation shows a pid that was used again.
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


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@asynccontextmanager
async def atomic_directory(folder: Path) -> AsyncIterator[Path | None]:
    """Yield a folder that is renamed to `folder` at the end; None when that exists. A half-made one is made anew."""
    if folder.exists():
        yield None
        return
    making = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    yield making
    making.rename(folder)


def kept_secret(file: Path, *, reader: tuple[int, int] | None = None) -> str:
    """Return the secret in a file that only we can read, or as root only `reader`, a user and a group.

    One is made when there is none.
    """
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f"{file.name}.new")
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        new.write_text(secrets.token_hex(24), encoding="utf-8")
        if reader:
            os.chown(new, *reader)
        new.rename(file)
    return file.read_text(encoding="utf-8")


def close_to_others(folder: Path) -> None:
    """Close a folder to other users; as root they may pass it, since a server runs as another user."""
    folder.chmod(0o701 if unprivileged() else 0o700)


def unprivileged() -> tuple[int, int] | None:
    """Return the user and group for a program that refuses to run as root; None when we are not root."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def make_reachable(path: Path) -> None:
    """Let other users pass (not list) the folders on the way to `path`, which are made where missing; needs root."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o001)
