"""A revision in the log and a row of `spans`, each as 93 bytes: which span, where it is, and digests.

Entries are spread over files by span, so that all about a span is compared together.
"""

import tempfile
from collections.abc import Iterable, Iterator
from datetime import date
from hashlib import blake2b
from operator import attrgetter
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import NamedTuple, Self

from services.projections.traces.rows import SpanRef, SpanRow

LOG, TABLE = 0, 1
_FORMAT = Struct("<i16s8siBqiqi16s16s")
SIZE = _FORMAT.size
_APART = {"project_id", "start_day", "trace_id", "span_id", "parts", "usage", "cost"}
_columns = attrgetter(*(name for name in SpanRow.__slots__ if name not in _APART))


class SpanId(NamedTuple):
    """What makes a span one; `project` is a number that stands for its id during a run."""

    project: int
    trace_id: bytes
    span_id: bytes
    day: int


class Entry(NamedTuple):
    """One side of a comparison.

    LOG: a revision, with the digest of the row that it would be if it were the only one; `refs_digest` is zeros.
    TABLE: a row, with the digests of its revisions' places, of which `ref` is the first, and of its columns.
    """

    span: SpanId
    side: int
    ref: SpanRef
    refs_digest: bytes
    content: bytes


def pack(entry: Entry) -> bytes:
    """The bytes of an entry."""
    return _FORMAT.pack(*entry.span, entry.side, *entry.ref, entry.refs_digest, entry.content)


def unpack(data: bytes) -> Iterable[Entry]:
    """The entries in a file."""
    for fields in _FORMAT.iter_unpack(data):
        yield Entry(SpanId(*fields[:4]), fields[4], SpanRef(*fields[5:9]), *fields[9:])


def digest(value: object) -> bytes:
    """16 bytes that stand for a value of plain types."""
    return blake2b(repr(value).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def content(row: SpanRow) -> bytes:
    """Digest of all columns but the identity of the span and the places of its revisions."""
    return digest((_columns(row), _sorted(row.usage), _sorted(row.cost)))


def refs_digest(refs: Iterable[SpanRef]) -> bytes:
    """Digest of where the revisions of a span are."""
    return digest([tuple(ref) for ref in sorted(refs)])


def day_of(day: int) -> date:
    """A day from its number."""
    return date.fromordinal(day)


def _sorted(values: dict[str, int] | None) -> object:
    return None if values is None else sorted(values.items())


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
