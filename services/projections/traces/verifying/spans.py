"""The spans of both sides, share by share: what the log tells of each, and the row that is there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from services.projections.traces.folding.fold import fold
from services.projections.traces.folding.rows import Part, SpanKey, SpanRow
from services.projections.traces.verifying.entries import (
    LOG,
    Entry,
    SpanId,
    content,
    day_of,
    digest,
    parts_digest,
)
from services.projections.traces.verifying.findings import Findings
from services.projections.traces.verifying.log_side import Log
from services.projections.traces.verifying.stored import Stored

_AT_A_TIME = 10_000
"""Spans told several times, held with all that is told of them."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Span:
    told: list[Entry] = field(default_factory=list)
    row: Entry | None = None


@dataclass(frozen=True, slots=True)
class _Expected:
    """A row as the log has it."""

    part: Part
    parts: bytes
    content: bytes


class Spans:
    """Compares shares."""

    def __init__(self, log: Log, stored: Stored, findings: Findings, projects: Sequence[str]) -> None:
        self._log, self._stored, self._findings, self._projects = log, stored, findings, projects

    async def compare(self, share: Iterable[Entry]) -> None:
        """All that is said of some spans."""
        spans: dict[SpanId, _Span] = {}
        for entry in share:
            of = spans.setdefault(entry.span, _Span())
            if entry.side == LOG:
                of.told.append(entry)
            else:
                of.row = entry
        several = []
        for span, of in spans.items():
            if self._expired(span, of):
                self._findings.expired += 1
            elif len(of.told) > 1:
                several.append((span, of))
            else:
                only = of.told[0] if of.told else None
                expected = _Expected(only.part, parts_digest([only.part]), only.content) if only else None
                await self._judge(span, of, expected)
        for begin in range(0, len(several), _AT_A_TIME):
            await self._fold_and_judge(several[begin : begin + _AT_A_TIME])

    def _expired(self, span: SpanId, of: _Span) -> bool:
        """Whether it can't be told what is to be there: a day of it is gone, or the log no longer reaches back."""
        if day_of(span.day) < self._stored.spans_since:
            return of.row is None
        if len(of.told) > 1:
            return any(_received(entry.part) < self._stored.blocks_since for entry in of.told)
        return of.row is not None and of.row.part.offset < self._log.starts.get(of.row.part.partition, 0)

    async def _fold_and_judge(self, several: Sequence[tuple[SpanId, _Span]]) -> None:
        sources = await self._log.sources(entry.part for _, of in several for entry in of.told)
        for span, of in several:
            row = fold(self._key(span), [sources[entry.part][1] for entry in of.told])
            await self._judge(span, of, _Expected(row.parts[0], parts_digest(row.parts), content(row)))

    async def _judge(self, span: SpanId, of: _Span, expected: _Expected | None) -> None:
        row, findings, day = of.row, self._findings, day_of(span.day)
        if expected:
            where = "spans", expected.part.partition, day
            findings.in_log(where, digest((span, expected.parts, expected.content)))
        if row:
            findings.is_stored(("spans", row.part.partition, day), digest((span, row.told, row.content)))
        if expected and not row:
            findings.differs(where, "missing", self._shown(span, expected.part))
        elif row and not expected:
            findings.differs(("spans", row.part.partition, day), "extra", self._shown(span, row.part))
        elif row and expected and (row.told, row.content) != (expected.parts, expected.content):
            columns = await self._columns(span, of.told) if findings.may_name("spans", "altered") else []
            findings.differs(where, "altered", self._shown(span, expected.part), columns)

    async def _columns(self, span: SpanId, told: Sequence[Entry]) -> list[str]:
        """In which columns the stored row is not what the log tells."""
        sources = await self._log.sources(entry.part for entry in told)
        ours = fold(self._key(span), [version for _, version in sources.values()])
        theirs = await self._stored.span(self._key(span))
        return [name for name in SpanRow.__slots__ if getattr(ours, name) != getattr(theirs, name)]

    def _key(self, span: SpanId) -> SpanKey:
        return self._projects[span.project], span.trace_id, span.span_id, day_of(span.day)

    def _shown(self, span: SpanId, part: Part) -> Mapping[str, object]:
        return {
            "project": self._projects[span.project], "trace": span.trace_id.hex(), "span": span.span_id.hex(),
            "day": str(day_of(span.day)), "partition": part.partition, "offset": part.offset,
        }  # fmt: skip


def _received(part: Part) -> date:
    return (_EPOCH + timedelta(microseconds=part.received_at_us)).date()
