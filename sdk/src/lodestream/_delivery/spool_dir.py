"""The folders of the spool: each belongs to the process that holds its lock."""

import contextlib
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lodestream._delivery.segment import FileStorage, Segment
from lodestream._diagnostics import warn_once
from lodestream._settings import MIB

try:
    import fcntl
except ImportError:  # no such locks: no folder is made, spans are kept in memory
    fcntl = None  # type: ignore[assignment]

_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class SpoolDir:
    """A folder whose lock is ours."""

    path: Path
    lock: int

    def segment(self, number: int) -> Path:
        """The file of a segment."""
        return self.path / f"seg-{number:06d}.log"

    def segments(self) -> list[Path]:
        """Return the files of its segments, oldest first."""
        return sorted(self.path.glob("seg-*.log"))

    def sync(self) -> None:
        """Make the names of its files durable. Raises OSError."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def leave(self) -> None:
        """Let somebody else have it."""
        with contextlib.suppress(OSError):
            os.close(self.lock)

    def remove(self) -> None:
        """Delete it, when it holds no segments any more."""
        if not self.segments():
            with contextlib.suppress(OSError):
                (self.path / _LOCK).unlink(missing_ok=True)
                self.path.rmdir()
        self.leave()


def create_dir(root: Path) -> SpoolDir:
    """A new folder under the root, readable by its owner only: it holds what people ask and models answer.

    Raises OSError.
    """
    if fcntl is None:
        raise OSError("this platform has no file locks")
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = uuid.uuid4().hex
    new = root / f".{name}"  # hidden from those who look for orphans until it is locked
    new.mkdir(mode=0o700)
    lock = None
    try:
        lock = os.open(new / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        new.rename(root / name)
    except OSError:
        if lock is not None:
            os.close(lock)
        with contextlib.suppress(OSError):
            (new / _LOCK).unlink(missing_ok=True)
            new.rmdir()
        raise
    return SpoolDir(root / name, lock)


def adopt_dirs(root: Path) -> Iterator[SpoolDir]:
    """The folders of processes that are gone, each given to one caller only. What can't be read is passed over."""
    try:
        paths = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    except OSError:
        return
    for path in paths:
        with contextlib.suppress(OSError):
            if (lock := _locked(path / _LOCK)) is not None:
                yield SpoolDir(path, lock)


def _locked(path: Path) -> int | None:
    if fcntl is None or not path.exists():
        return None
    lock = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        gone = os.fstat(lock).st_nlink == 0
    except OSError:
        gone = True
    if gone:
        os.close(lock)
        return None
    return lock


# --- Orphans ----------------------------------------------------------------------------------------------------------
# What processes that are gone have left in their folders.

_MAX_BAD_BYTES = 16 * MIB


@dataclass(slots=True, eq=False)
class Orphan:
    """A folder that is now ours to deliver, and its segments, not read yet."""

    folder: SpoolDir
    segments: list[Segment]

    def close(self) -> None:
        """Let go of its files."""
        for segment in self.segments:
            segment.close()

    def recover(self, segment: Segment) -> int:
        """Find what a segment of it holds; gives in how many places it is damaged. Raises OSError."""
        damaged = segment.recover()
        if damaged:
            warn_once("damage", f"{len(damaged)} damaged places in {self.folder.path}; they are kept in .bad files")
            quarantine(self.folder.path.parent, self, damaged)
        return len(damaged)


def find_orphans(root: Path) -> Iterator[Orphan]:
    """Each is given to one process only. Empty folders are removed."""
    for folder in adopt_dirs(root):
        segments = []
        with contextlib.suppress(OSError):
            for path in folder.segments():
                segments.append(Segment(FileStorage(path), size=path.stat().st_size, on_disk=True))  # noqa: PERF401
        if segments:
            yield Orphan(folder, segments)
        else:
            folder.remove()


def quarantine(root: Path, orphan: Orphan, damaged: Sequence[bytes]) -> None:
    """Keep damaged bytes for people to look at, up to a bound; failing at that is no matter."""
    with contextlib.suppress(OSError):
        held = sum(path.stat().st_size for path in root.glob("*.bad"))
        if held + sum(map(len, damaged)) <= _MAX_BAD_BYTES:
            with (root / f"{orphan.folder.path.name}.bad").open("ab") as file:
                file.write(b"".join(damaged))
