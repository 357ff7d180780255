"""Entries spread over files by span, so that all that is said of a span can be looked at together."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from services.projections.traces.verifying.entries import Entry, pack, unpack

_FILES = 64
_BUFFER = 256 * 1024


class Spool:
    """Temporary files (in TMPDIR), removed at the end."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="lodestream-verify-")
        self._files = [(Path(self._folder.name) / str(n)).open("w+b", buffering=_BUFFER) for n in range(_FILES)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            file.close()
        self._folder.cleanup()

    def add(self, entry: Entry) -> None:
        """Write an entry down."""
        span = entry.span
        number = int.from_bytes(span.trace_id[-3:], "big") * 31 + int.from_bytes(span.span_id[-3:], "big")
        self._files[(number * 2_654_435_761 >> 11) % _FILES].write(pack(entry))

    def shares(self) -> Iterator[list[Entry]]:
        """All entries, a share at a time; those of a span are in one."""
        for file in self._files:
            file.seek(0)
            yield list(unpack(file.read()))
