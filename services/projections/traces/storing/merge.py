"""The slow path: some spans of a batch are stored already. Their rows are folded anew from all that was ever told.

Rows are claimed in key order, as the fast path copies them, so that writers of the same spans queue and never deadlock.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import asyncpg

from services.projections.traces.folding.fold import Telling, fold_tellings, telling, version
from services.projections.traces.folding.projection import sources_in
from services.projections.traces.folding.rows import Part, SpanKey, SpanRow, TraceRow
from services.projections.traces.folding.summary import add, change, summarise
from services.projections.traces.storing.packed import key_of, pack_spans, pack_traces
from services.projections.traces.storing.stored import block_row, span_row
from services.projections.traces.storing.tables import SQL, add_to_traces, copy_spans, copy_traces, execute_prepared
from shared.read_model.postgres import load_sql

_STAGE_SPANS = load_sql(SQL / "stage_spans.sql")
_CLAIM_SPANS = load_sql(SQL / "claim_spans.sql")
_READ_TOLD = load_sql(SQL / "read_told.sql")
_READ_BLOCKS = load_sql(SQL / "read_blocks.sql")
_DELETE_SPANS = load_sql(SQL / "delete_spans.sql")
_READ_SPANS = load_sql(SQL / "read_spans.sql")
_REPLACE_TRACES = load_sql(SQL / "replace_traces.sql")
_SPANS_AT_ONCE = 2_000
_PARTS_AT_ONCE = 20_000  # some 40 MB of tellings
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


async def _refold(
    connection: asyncpg.Connection, told_again: Mapping[SpanKey, SpanRow]
) -> list[tuple[SpanRow, SpanRow]]:
    """Of the rows that change: what they were, and what they are to be."""
    if not told_again:
        return []
    stored = {_key(record): span_row(record) for record in await connection.fetch(_READ_TOLD, *_columns(told_again, 4))}
    changes = []
    for parts in _groups({key: {*stored[key].parts, *row.parts} for key, row in told_again.items()}):
        tellings = await _tellings(connection, parts)
        changes += [(stored[key], fold_tellings(key, tellings[key])) for key in parts]
    return [(was, now) for was, now in changes if was.parts != now.parts]


def _groups(parts: Mapping[SpanKey, Collection[Part]]) -> Iterator[Mapping[SpanKey, Collection[Part]]]:
    """Spans in groups of so many parts that there is room for them; in an order in which they share records."""
    group: dict[SpanKey, Collection[Part]] = {}
    count = 0
    for key, its in sorted(parts.items(), key=lambda each: min(each[1])):
        if group and count + len(its) > _PARTS_AT_ONCE:
            yield group
            group, count = {}, 0
        group[key] = its
        count += len(its)
    yield group


async def _tellings(
    connection: asyncpg.Connection, parts: Mapping[SpanKey, Collection[Part]]
) -> dict[SpanKey, list[Telling]]:
    """What was told of these spans. Their records are opened one after another, each once, and never held together.

    A part whose record is gone (retention) tells nothing any more.
    """
    wanted: dict[tuple[str, date, int, int], list[tuple[SpanKey, Part]]] = {}
    for key, its in parts.items():
        for part in its:
            received = (_EPOCH + timedelta(microseconds=part.received_at_us)).date()
            wanted.setdefault((key[0], received, part.partition, part.offset), []).append((key, part))
    found: dict[SpanKey, list[Telling]] = {key: [] for key in parts}
    places = sorted(wanted)
    for begin in range(0, len(places), _BLOCKS_AT_ONCE):
        records = await connection.fetch(_READ_BLOCKS, *_columns(places[begin : begin + _BLOCKS_AT_ONCE], 4))
        for block in map(block_row, records):
            sources = sources_in(block)
            for key, part in wanted[
                block.project_id, block.received_at.astimezone(UTC).date(), block.partition, block.offset
            ]:
                found[key].append(telling(version(part, sources[part.span_index])))
            del sources
            await asyncio.sleep(0)
    return found


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
