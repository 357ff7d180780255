"""`verify`: read the log up to the positions, read the tables, and say what differs."""

import argparse
from collections.abc import AsyncIterator, Sequence
from datetime import date
from hashlib import sha256
from typing import NoReturn

import asyncpg

from services.projections.traces.copy_format import microseconds
from services.projections.traces.rows import BlockRow, SpanRow
from services.projections.traces.summary import summarise
from services.projections.traces.verifying.entries import (
    LOG,
    TABLE,
    Entry,
    SpanId,
    Spool,
    content,
    digest,
    refs_digest,
)
from services.projections.traces.verifying.findings import Findings
from services.projections.traces.verifying.log_side import Log, fold_each, opened, opened_block
from services.projections.traces.verifying.spans import Spans
from services.projections.traces.verifying.stored import Place, Stored, differing, parts_of, span_row, stored
from shared.event_log.codec import LogRecord
from shared.projection.dead_letters import WHOLE_RECORD
from shared.projection.parking import is_of_unknown_kind
from shared.projection.rebuilding.command import run_and_exit
from shared.projection.rebuilding.events import Pace, Tell, tell
from shared.projection.rebuilding.rebuild import RefusedError
from shared.runtime.settings import KafkaSettings, PostgresSettings

SAME, DIFFERENT, UNKNOWN = 0, 1, 2


def verify(arguments: Sequence[str]) -> NoReturn:
    """Verify, and exit: 0, the read model is what the log folds to; 1, it differs; 2, that could not be determined."""
    description = "Compare the traces read model with the log, up to its positions, while everything runs on."
    parser = argparse.ArgumentParser(prog="python -m services.projections.traces verify", description=description)
    parser.parse_args(arguments)
    run_and_exit("verify-traces", _verify, failed=UNKNOWN)


async def _verify() -> int:
    async with stored(PostgresSettings().dsn) as tables, opened(KafkaSettings()) as log:
        beyond = sorted(number for number, offset in tables.positions.items() if offset > log.ends.get(number, 0))
        if beyond:
            raise RefusedError(f"the log ends before the positions of partitions {beyond}: it was replaced or cut")
        findings = await Verification(log, tables, tell).run()
    tell("verified", **findings.report(tables.positions))
    return SAME if findings.same else DIFFERENT


_NOTHING = bytes(16)
_TRACES_AT_A_TIME = 500


class Verification:
    """One run over a snapshot."""

    def __init__(self, log: Log, stored: Stored, tell: Tell) -> None:
        self._log, self._stored, self._tell = log, stored, tell
        self._findings = Findings()
        self._projects: dict[str, int] = {}
        self._letters: dict[Place, bytes] = {}
        self._overflow: dict[int, int] = {}
        self._parked: set[tuple[int, int]] = set()
        self._met: set[Place] = set()
        self._revisions = 0

    async def run(self) -> Findings:
        """What differs."""
        self._letters, self._overflow = await self._stored.letters(), await self._stored.overflow()
        self._parked = await self._stored.parked()
        with Spool() as spool:
            await self._read_log(spool)
            await self._read_spans(spool)
            spans = Spans(self._log, self._stored, self._findings, list(self._projects))
            self._tell("comparing")
            for share in spool.shares():
                await spans.compare(share)
        await self._lonely_summaries()
        for partition, offset, item in sorted(self._letters.keys() - self._met):
            if offset >= self._log.starts.get(partition, 0):
                key = {"partition": partition, "offset": offset, "item": item}
                self._findings.differs(("dead_letters", partition, date.min), "extra", key)
        return self._findings

    async def _read_log(self, spool: Spool) -> None:
        total = sum(max(0, end - self._log.starts[number]) for number, end in self._stored.positions.items())
        pace = Pace(self._tell, "reading the log", done=0, total=total)
        blocks = _Ahead(self._stored.blocks())
        for partition, end in sorted(self._stored.positions.items()):
            async for piece in self._log.records(partition, end):
                for record in piece:
                    spans = await self._record(record, blocks, spool)
                    pace.add(1, spans)
        while row := await blocks.take():
            self._extra_block(row)
        pace.show()

    async def _record(self, record: LogRecord, blocks: "_Ahead", spool: Spool) -> int:
        """A record against its block; its spans into the spool."""
        at = record.partition, record.offset
        while (row := blocks.next or await blocks.peek()) and (row["partition"], row["offset"]) < at:
            self._extra_block(row)
            await blocks.take()
        stored = row if row and (row["partition"], row["offset"]) == at else None
        if stored:
            await blocks.take()
        if is_of_unknown_kind(record.event) or at in self._parked:
            self._park(record)
            return 0
        opened = opened_block(record)
        if (*at, WHOLE_RECORD) in self._letters or opened is None:
            self._set_aside(record, WHOLE_RECORD, sha256(record.raw).digest())
            if stored:
                self._extra_block(stored)
            return 0
        block, sources = opened
        self._block(block, stored)
        for revision in fold_each(block, sources):
            if revision.row is None or (*at, revision.index) in self._letters:
                self._set_aside(record, revision.index)
                continue
            assert revision.key is not None
            spool.add(Entry(self._span(revision.key), LOG, revision.ref, _NOTHING, content(revision.row)))
            self._revisions += 1
        return len(sources)

    def _park(self, record: LogRecord) -> None:
        key = {"partition": record.partition, "offset": record.offset}
        where = "parked_records", record.partition, record.appended_at.date()
        if (record.partition, record.offset) not in self._parked:
            self._findings.differs(where, "missing", key)
        else:
            self._findings.set_aside += 1

    def _set_aside(self, record: LogRecord, item: int, raw: bytes | None = None) -> None:
        place = record.partition, record.offset, item
        key = {"partition": record.partition, "offset": record.offset, "item": item}
        where = "dead_letters", record.partition, record.appended_at.date()
        letter = self._letters.get(place)
        self._met.add(place)
        if letter is None and self._overflow.get(record.partition, 0) > 0:  # counted, not kept
            self._overflow[record.partition] -= 1
            self._findings.set_aside += 1
        elif letter is None:
            self._findings.differs(where, "missing", key)
        elif raw is not None and letter != raw:
            self._findings.differs(where, "altered", key, ["raw"])
        else:
            self._findings.set_aside += 1

    def _block(self, block: BlockRow, stored: asyncpg.Record | None) -> None:
        day = block.received_at.date()
        if stored is None and day < self._stored.blocks_since:
            self._findings.expired += 1
            return
        where = "span_blocks", block.partition, day
        ours = {
            "project_id": block.project_id, "received_at": microseconds(block.received_at), "sdk_name": block.sdk_name,
            "sdk_version": block.sdk_version, "compression": block.compression, "span_count": block.span_count,
            "otlp_request": sha256(block.otlp_request).digest(),
        }  # fmt: skip
        place = (block.partition, block.offset)
        self._findings.in_log(where, digest((place, list(ours.values()))))
        key = {"project": block.project_id, "partition": block.partition, "offset": block.offset}
        if stored is None:
            self._findings.differs(where, "missing", key)
            return
        theirs = _block_columns(stored)
        stored_where = "span_blocks", block.partition, stored["received_day"]
        self._findings.is_stored(stored_where, digest((place, list(theirs.values()))))
        if columns := [name for name in ours if ours[name] != theirs[name]]:
            self._findings.differs(where, "altered", key, columns)

    def _extra_block(self, row: asyncpg.Record) -> None:
        if row["offset"] < self._log.starts.get(row["partition"], 0):
            self._findings.expired += 1
            return
        where = "span_blocks", row["partition"], row["received_day"]
        self._findings.is_stored(where, digest(((row["partition"], row["offset"]), list(_block_columns(row).values()))))
        key = {"project": row["project_id"], "partition": row["partition"], "offset": row["offset"]}
        self._findings.differs(where, "extra", key)

    async def _read_spans(self, spool: Spool) -> None:
        """The rows into the spool; and the summaries against the rows, trace by trace."""
        pace = Pace(self._tell, "reading the tables", done=0, total=self._revisions, unit="rows")
        traces: dict[tuple[str, bytes], list[SpanRow]] = {}
        async for record in self._stored.spans():
            row = span_row(record)
            parts = parts_of(record)
            key = row.project_id, row.trace_id, row.span_id, row.start_day
            spool.add(Entry(self._span(key), TABLE, parts[0], refs_digest(parts), content(row)))
            trace = row.project_id, row.trace_id
            if trace not in traces and len(traces) >= _TRACES_AT_A_TIME:
                await self._summaries(traces)
                traces = {}
            traces.setdefault(trace, []).append(row)
            pace.add(1)
        if traces:
            await self._summaries(traces)
        pace.show()

    async def _summaries(self, traces: dict[tuple[str, bytes], list[SpanRow]]) -> None:
        stored = await self._stored.traces(list(traces))
        for expected in summarise(row for rows in traces.values() for row in rows):
            found = stored.get((expected.project_id, expected.trace_id))
            if found and found["start_at"].date() < self._stored.spans_since:
                self._findings.expired += 1  # it also counts spans whose days were removed
                continue
            columns = differing(expected, found) if found else []
            day = date.fromordinal(date(1970, 1, 1).toordinal() + expected.start_at_us // 86_400_000_000)
            where, key = ("traces", -1, day), {"project": expected.project_id, "trace": expected.trace_id.hex()}
            checksum = digest((expected.project_id, expected.trace_id))
            self._findings.in_log(where, checksum)
            if found is None:
                self._findings.differs(where, "missing", key)
                continue
            self._findings.is_stored(where, checksum if not columns else digest((checksum, columns)))
            if columns:
                self._findings.differs(where, "altered", key, columns)

    async def _lonely_summaries(self) -> None:
        async for row in self._stored.traces_without_spans():
            where = "traces", -1, row["start_at"].date()
            self._findings.is_stored(where, digest((row["project_id"], row["trace_id"])))
            key = {"project": row["project_id"], "trace": row["trace_id"].hex()}
            self._findings.differs(where, "extra", key)

    def _span(self, key: tuple[str, bytes, bytes, date]) -> SpanId:
        project = self._projects.setdefault(key[0], len(self._projects))
        return SpanId(project, key[1], key[2], key[3].toordinal())


class _Ahead:
    """Rows, one of which may be looked at before it is taken."""

    def __init__(self, rows: AsyncIterator[asyncpg.Record]) -> None:
        self._rows = rows
        self.next: asyncpg.Record | None = None

    async def peek(self) -> asyncpg.Record | None:
        if self.next is None:
            self.next = await anext(self._rows, None)
        return self.next

    async def take(self) -> asyncpg.Record | None:
        row, self.next = await self.peek(), None
        return row


def _block_columns(row: asyncpg.Record) -> dict[str, object]:
    return {
        "project_id": row["project_id"], "received_at": microseconds(row["received_at"]), "sdk_name": row["sdk_name"],
        "sdk_version": row["sdk_version"], "compression": row["compression"], "span_count": row["span_count"],
        "otlp_request": row["digest"],
    }  # fmt: skip
