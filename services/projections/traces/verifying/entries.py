"""A telling in the log and a row of `spans`, each as 93 bytes: what it is, where it is told, and digests."""

from collections.abc import Iterable
from datetime import date
from hashlib import blake2b
from operator import attrgetter
from struct import Struct
from typing import NamedTuple

from services.projections.traces.folding.rows import Part, SpanRow

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
    """LOG: one telling, `told` a digest of its bytes, `content` of the row if it were the only one. TABLE: a row,
    `told` a digest of its parts, of which `part` is the first.
    """

    span: SpanId
    side: int
    part: Part
    told: bytes
    content: bytes


def pack(entry: Entry) -> bytes:
    """The bytes of an entry."""
    return _FORMAT.pack(*entry.span, entry.side, *entry.part, entry.told, entry.content)


def unpack(data: bytes) -> Iterable[Entry]:
    """The entries in a file."""
    for fields in _FORMAT.iter_unpack(data):
        yield Entry(SpanId(*fields[:4]), fields[4], Part(*fields[5:9]), *fields[9:])


def digest(value: object) -> bytes:
    """16 bytes that stand for a value of plain types."""
    return blake2b(repr(value).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def content(row: SpanRow) -> bytes:
    """Of all columns that are not the span's identity or the places of its parts."""
    return digest((_columns(row), _sorted(row.usage), _sorted(row.cost)))


def parts_digest(parts: Iterable[Part]) -> bytes:
    """Of where a span is told."""
    return digest([tuple(part) for part in sorted(parts)])


def day_of(day: int) -> date:
    """A day from its number."""
    return date.fromordinal(day)


def _sorted(values: dict[str, int] | None) -> object:
    return None if values is None else sorted(values.items())
