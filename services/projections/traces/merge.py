"""The slow path: some spans of a batch are stored already. Their rows are folded anew from all their revisions.

Rows are claimed in key order, as the fast path copies them, so that writers of the same spans queue and never deadlock.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import orjson

from services.projections.traces.batch import sources_in
from services.projections.traces.copy_format import key_of, pack_spans, pack_traces
from services.projections.traces.fold import RevisionColumns, columns_of, fold_revisions, read_revision
from services.projections.traces.rows import BlockRow, SpanKey, SpanRef, SpanRow, TraceRow
from services.projections.traces.summary import add, change, summarise
from services.projections.traces.tables import SQL, add_to_traces, copy_spans, copy_traces, execute_prepared
from shared.storage.postgres import load_sql

_STAGE_SPANS = load_sql(SQL / "stage_spans.sql")
_CLAIM_SPANS = load_sql(SQL / "claim_spans.sql")
_READ_STORED = load_sql(SQL / "read_stored.sql")
_READ_BLOCKS = load_sql(SQL / "read_blocks.sql")
_DELETE_SPANS = load_sql(SQL / "delete_spans.sql")
_READ_SPANS = load_sql(SQL / "read_spans.sql")
_REPLACE_TRACES = load_sql(SQL / "replace_traces.sql")
_SPANS_AT_ONCE = 2_000
_REVISIONS_AT_ONCE = 20_000  # some 40 MB
_BLOCKS_AT_ONCE = 8  # at most 2 MB each as they are stored
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def merge_spans(connection: asyncpg.Connection, rows: Sequence[SpanRow]) -> int:
    """Insert the new rows, fold the others with what is stored, and bring the summaries to what the rows say.

    The rows' own records must be in span_blocks already. Returns how many of the spans were stored already.
    """
    by_key = {key_of(row): row for row in rows}
    await connection.execute(_STAGE_SPANS)
    await copy_spans(connection, pack_spans(rows), table="staged_spans")
    new = {_key(record) for record in await connection.fetch(_CLAIM_SPANS)}
    changes = await _refold(connection, {key: row for key, row in by_key.items() if key not in new})
    if changes:
        await connection.execute(_DELETE_SPANS, *_columns((key_of(now) for _, now in changes), 4))
        await copy_spans(connection, pack_spans([now for _, now in changes]))
    added = {(summary.project_id, summary.trace_id): summary for summary in summarise(by_key[key] for key in new)}
    anew = set()
    for was, now in changes:
        trace = now.project_id, now.trace_id
        gained = change(was, now)
        if gained is None:
            anew.add(trace)
            (gained,) = summarise([now])  # to lock its trace with the others, in order; it is summed up anew below
        added[trace] = add(added[trace], gained) if trace in added else gained
    await add_to_traces(connection, pack_traces([added[trace] for trace in sorted(added)]))
    for trace in sorted(anew):
        await _sum_up_anew(connection, *trace)
    return len(by_key) - len(new)


async def _refold(connection: asyncpg.Connection, again: Mapping[SpanKey, SpanRow]) -> list[tuple[SpanRow, SpanRow]]:
    """Fold the rows of spans that are stored already anew; return those that change, before and after."""
    if not again:
        return []
    stored = {_key(record): span_row(record) for record in await connection.fetch(_READ_STORED, *_columns(again, 4))}
    changes = []
    for refs in _groups({key: {*stored[key].parts, *row.parts} for key, row in again.items()}):
        revisions = await _revisions(connection, refs)
        changes += [(stored[key], fold_revisions(key, revisions[key])) for key in refs]
    return [(was, now) for was, now in changes if was.parts != now.parts]


def _groups(refs: Mapping[SpanKey, Collection[SpanRef]]) -> Iterator[Mapping[SpanKey, Collection[SpanRef]]]:
    """Spans in groups with so many revisions that there is room for them, in an order in which they share records."""
    group: dict[SpanKey, Collection[SpanRef]] = {}
    count = 0
    for key, own_refs in sorted(refs.items(), key=lambda each: min(each[1])):
        if group and count + len(own_refs) > _REVISIONS_AT_ONCE:
            yield group
            group, count = {}, 0
        group[key] = own_refs
        count += len(own_refs)
    yield group


async def _revisions(
    connection: asyncpg.Connection, refs: Mapping[SpanKey, Collection[SpanRef]]
) -> dict[SpanKey, list[RevisionColumns]]:
    """Read the revisions of these spans. Their records are opened one after another, and never held together.

    A revision whose record is gone (retention) is left out.
    """
    wanted: dict[tuple[str, date, int, int], list[tuple[SpanKey, SpanRef]]] = {}
    for key, own_refs in refs.items():
        for ref in own_refs:
            received = (_EPOCH + timedelta(microseconds=ref.received_at_us)).date()
            wanted.setdefault((key[0], received, ref.partition, ref.offset), []).append((key, ref))
    revisions: dict[SpanKey, list[RevisionColumns]] = {key: [] for key in refs}
    places = sorted(wanted)
    for begin in range(0, len(places), _BLOCKS_AT_ONCE):
        records = await connection.fetch(_READ_BLOCKS, *_columns(places[begin : begin + _BLOCKS_AT_ONCE], 4))
        for block in map(block_row, records):
            sources = sources_in(block)
            for key, ref in wanted[
                block.project_id, block.received_at.astimezone(UTC).date(), block.partition, block.offset
            ]:
                revisions[key].append(columns_of(read_revision(ref, sources[ref.span_index])))
            del sources
            await asyncio.sleep(0)
    return revisions


async def _sum_up_anew(connection: asyncpg.Connection, project_id: str, trace_id: bytes) -> None:
    """Make the summary of a trace, whose lock we hold, exactly what its span rows say; a piece of them at a time."""
    summary: TraceRow | None = None
    async for records in _in_pieces(connection.cursor(_READ_SPANS, project_id, trace_id, prefetch=_SPANS_AT_ONCE)):
        (some,) = summarise(map(span_row, records))
        summary = add(summary, some) if summary else some
        await asyncio.sleep(0)
    assert summary is not None, "a span of it has just been written"
    await copy_traces(connection, pack_traces([summary]), table="staged_traces")
    await execute_prepared(connection, _REPLACE_TRACES)


async def _in_pieces(records: AsyncIterable[asyncpg.Record]) -> AsyncIterator[list[asyncpg.Record]]:
    piece = []
    async for record in records:
        piece.append(record)
        if len(piece) == _SPANS_AT_ONCE:
            yield piece
            piece = []
    if piece:
        yield piece


def _key(record: asyncpg.Record) -> SpanKey:
    return record["project_id"], record["trace_id"], record["span_id"], record["start_day"]


def _columns(rows: Iterable[Sequence[object]], width: int) -> list[list[object]]:
    """Rows as the parameters of unnest()."""
    columns: list[list[object]] = [[] for _ in range(width)]
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return columns


# Rows as the tables return them


_SAME = tuple(name for name in SpanRow.__slots__ if name not in {"usage", "cost", "parts"})


def span_row(record: asyncpg.Record) -> SpanRow:
    """A span, from read_spans.sql or read_stored.sql."""
    same: dict[str, Any] = {name: record[name] for name in _SAME}
    return SpanRow(**same, usage=_json(record["usage"]), cost=_json(record["cost"]), parts=parts_of(record))


def parts_of(record: asyncpg.Record) -> tuple[SpanRef, ...]:
    """Where the revisions of a span are, from the same."""
    if numbers := record["parts"]:
        return tuple(SpanRef(*numbers[n : n + 4]) for n in range(0, len(numbers), 4))
    return (
        SpanRef(record["received_at_us"], record["block_partition"], record["block_offset"], record["block_index"]),
    )


def block_row(record: asyncpg.Record) -> BlockRow:
    """A record, from read_blocks.sql."""
    return BlockRow(**dict(record))


def _json(value: str | None) -> dict[str, int] | None:
    return None if value is None else orjson.loads(value)
