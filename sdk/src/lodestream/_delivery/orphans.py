"""What processes that are gone have left in their folders."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lodestream._delivery.segment import FileStorage, Segment
from lodestream._delivery.spool_dir import SpoolDir, adopt_dirs
from lodestream._diagnostics import tell
from lodestream._settings import MIB

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
            tell("damage", f"{len(damaged)} damaged places in {self.folder.path}; they are kept in .bad files")
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
