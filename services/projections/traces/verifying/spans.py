"""The spans of both sides, share by share: what the log tells of each, and the row that is there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from services.projections.traces.fold import fold
from services.projections.traces.rows import SpanKey, SpanRef, SpanRow
from services.projections.traces.verifying.entries import (
    LOG,
    Entry,
    SpanId,
    content,
    day_of,
    digest,
    refs_digest,
)
from services.projections.traces.verifying.findings import Findings
from services.projections.traces.verifying.log_side import Log
from services.projections.traces.verifying.stored import Stored

_AT_A_TIME = 10_000
"""Spans with several revisions that are held at one time, with all of these."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Span:
    revisions: list[Entry] = field(default_factory=list)
    row: Entry | None = None


@dataclass(frozen=True, slots=True)
class _Expected:
    """A row as the log has it."""

    ref: SpanRef
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
                of.revisions.append(entry)
            else:
                of.row = entry
        several = []
        for span, of in spans.items():
            if self._expired(span, of):
                self._findings.expired += 1
            elif len(of.revisions) > 1:
                several.append((span, of))
            else:
                only = of.revisions[0] if of.revisions else None
                expected = _Expected(only.ref, refs_digest([only.ref]), only.content) if only else None
                await self._judge(span, of, expected)
        for begin in range(0, len(several), _AT_A_TIME):
            await self._fold_and_judge(several[begin : begin + _AT_A_TIME])

    def _expired(self, span: SpanId, of: _Span) -> bool:
        """Whether it is unknown what is to be there: a day of it is gone, or the log no longer reaches back."""
        if day_of(span.day) < self._stored.spans_since:
            return of.row is None
        if len(of.revisions) > 1:
            return any(_received(entry.ref) < self._stored.blocks_since for entry in of.revisions)
        return of.row is not None and of.row.ref.offset < self._log.starts.get(of.row.ref.partition, 0)

    async def _fold_and_judge(self, several: Sequence[tuple[SpanId, _Span]]) -> None:
        sources = await self._log.revisions(entry.ref for _, of in several for entry in of.revisions)
        for span, of in several:
            row = fold(self._key(span), [sources[entry.ref][1] for entry in of.revisions])
            await self._judge(span, of, _Expected(row.parts[0], refs_digest(row.parts), content(row)))

    async def _judge(self, span: SpanId, of: _Span, expected: _Expected | None) -> None:
        row, findings, day = of.row, self._findings, day_of(span.day)
        if expected:
            where = "spans", expected.ref.partition, day
            findings.in_log(where, digest((span, expected.parts, expected.content)))
        if row:
            findings.is_stored(("spans", row.ref.partition, day), digest((span, row.refs_digest, row.content)))
        if expected and not row:
            findings.differs(where, "missing", self._shown(span, expected.ref))
        elif row and not expected:
            findings.differs(("spans", row.ref.partition, day), "extra", self._shown(span, row.ref))
        elif row and expected and (row.refs_digest, row.content) != (expected.parts, expected.content):
            columns = await self._columns(span, of.revisions) if findings.may_name("spans", "altered") else []
            findings.differs(where, "altered", self._shown(span, expected.ref), columns)

    async def _columns(self, span: SpanId, revisions: Sequence[Entry]) -> list[str]:
        """In which columns the stored row is not what the log tells."""
        sources = await self._log.revisions(entry.ref for entry in revisions)
        ours = fold(self._key(span), [revision for _, revision in sources.values()])
        theirs = await self._stored.span(self._key(span))
        return [name for name in SpanRow.__slots__ if getattr(ours, name) != getattr(theirs, name)]

    def _key(self, span: SpanId) -> SpanKey:
        return self._projects[span.project], span.trace_id, span.span_id, day_of(span.day)

    def _shown(self, span: SpanId, ref: SpanRef) -> Mapping[str, object]:
        return {
            "project": self._projects[span.project], "trace": span.trace_id.hex(), "span": span.span_id.hex(),
            "day": str(day_of(span.day)), "partition": ref.partition, "offset": ref.offset,
        }  # fmt: skip


def _received(ref: SpanRef) -> date:
    return (_EPOCH + timedelta(microseconds=ref.received_at_us)).date()
