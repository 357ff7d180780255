"""Topics of events against their read models: whether the projections kept their word."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.torture.findings import Finding, Kind
from tests.torture.log_reader import Events
from tests.torture.model import Tables, compare
from tests.torture.tables import Progress

_WHOLE = -1


@dataclass(frozen=True, slots=True)
class Projected:
    """A topic from where the run began, what the fold of our own makes of it, and what its projection has made."""

    log: Events
    ordinary: Events
    """The same without what hostile projects put there."""
    begin: Mapping[int, int]
    expected: Tables
    found: Tables
    progress: Progress


def judge_projected(projected: Projected) -> Iterator[Finding]:
    """Every event is folded exactly once, or set aside whole; every row follows from the log, and none is missing."""
    yield from _positions(projected)
    yield from _letters(projected)
    yield from compare(projected.expected, projected.found)


def _positions(projected: Projected) -> Iterator[Finding]:
    topic = projected.log.topic
    for partition, end in projected.log.ends.items():
        row, begin = projected.progress.positions.get(partition), projected.begin.get(partition, 0)
        at = row["next_offset"] if row else begin
        where = f"{topic} {partition} at {at}"
        if row and row["halted_reason"]:
            yield Finding(Kind.OUT_OF_PROMISE, "a partition is halted", f"{where}: {row['halted_reason']}")
        if at > end:
            yield Finding(Kind.OUT_OF_PROMISE, "a position beyond the log's end", f"{where}: {end} is the end")
        for event in projected.log.events:
            if event.partition == partition and event.offset >= max(at, begin):
                yield Finding(Kind.LOST, "in the log, and not folded in time", event.where)


def _letters(projected: Projected) -> Iterator[Finding]:
    letters = projected.progress.letters
    for event in projected.ordinary.events:
        letter = letters.get((event.partition, event.offset, _WHOLE))
        if event.why and letter is None:
            yield Finding(Kind.LOST, "unreadable, and no dead letter", f"{event.where}: {event.why}")
        elif event.why and letter and letter["raw"] != event.raw:
            yield Finding(Kind.ALTERED, "a dead letter that is not what the log holds", event.where)
        elif letter and not event.why:
            yield Finding(
                Kind.OUT_OF_PROMISE, "a good event became a dead letter", f"{event.where}: {letter['reason']}"
            )
